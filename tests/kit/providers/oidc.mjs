// A real provider (oidc-provider): client credentials for `agent`, as a JWT or opaque, and introspection for `promgate`.
// Environment: PORT; TTL of tokens in seconds; FORMAT jwt or opaque. A line `issued` is printed for each token.
// SIGUSR2 stops listening and cuts all connections, or listens again: an outage in which nothing is forgotten.
import { generateKeyPairSync } from 'node:crypto';
import { load } from './modules.mjs';

const { Provider } = await load('oidc-provider');
const port = Number(process.env.PORT);
const ttl = Number(process.env.TTL);
const issuer = `http://127.0.0.1:${port}`;
const audience = 'urn:promgate';
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'agent', client_secret: 'agent-secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope: 'write' },
    { client_id: 'stranger', client_secret: 'stranger-secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope: 'read' },
    { client_id: 'promgate', client_secret: 'promgate-secret', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'ec-1' }] },
  cookies: { keys: ['only-for-tests'] },
  scopes: ['write', 'read'],
  ttl: { ClientCredentials: ttl },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async (ctx, client) => client.clientId === 'promgate' },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async () => audience,
      getResourceServerInfo: async () => ({
        scope: 'write read',
        audience,
        accessTokenTTL: ttl,
        ...(process.env.FORMAT === 'jwt' ? { accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } } : { accessTokenFormat: 'opaque' }),
      }),
    },
  },
});
provider.on('client_credentials.issued', () => console.log('issued')); // a JWT, which it does not keep
provider.on('client_credentials.saved', () => console.log('issued')); // an opaque one
provider.on('server_error', (ctx, error) => console.error('server_error', error));

setInterval(() => {}, 1 << 30); // while it does not listen, nothing else keeps it alive
let server;
const listen = () => { server = provider.listen(port, '127.0.0.1', () => console.log('listening')); };
process.on('SIGUSR2', () => {
  if (!server) return listen();
  server.close(() => console.log('away'));
  server.closeAllConnections();
  server = undefined;
});
listen();

// A real provider of people (oidc-provider) with its own development login page: any name with any password.
// Environment: PORT; CLIENT, the JSON of what differs of the client `promgate` (redirect_uris, ...); TTL of access tokens.
// NAME has the e-mail NAME@example.net, verified unless NAME begins with `unverified`, and the groups before the first `.`
// of it: `sre+dev.carol` is in `sre` and `dev`. Refresh tokens rotate; using one twice ends the grant.
import { generateKeyPairSync } from 'node:crypto';
import { load } from './modules.mjs';

const { Provider } = await load('oidc-provider');
const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'promgate',
    client_secret: 'promgate-secret',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    ...JSON.parse(process.env.CLIENT),
  }],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', kid: 'ec-1' }] },
  cookies: { keys: ['only-for-tests'] },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
  scopes: ['openid', 'offline_access'],
  ttl: { AccessToken: Number(process.env.TTL ?? 600) },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: id,
      email: `${id.split('.').at(-1)}@example.net`,
      email_verified: !id.startsWith('unverified'),
      groups: id.includes('.') ? id.split('.')[0].split('+') : [],
    }),
  }),
  issueRefreshToken: async () => true,
  rotateRefreshToken: () => true,
  pkce: { required: () => true },
  // Its own keeps it from asking this machine, where everything is in a test.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  features: {
    devInteractions: { enabled: true },
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
});
provider.on('server_error', (ctx, error) => console.error('server_error', error));
provider.on('grant.error', (ctx, error) => console.error('grant.error', error.message, error.error_detail));
provider.on('backchannel.success', () => console.log('backchannel.success'));
provider.on('backchannel.error', (ctx, error) => console.error('backchannel.error', error));
provider.listen(port, '127.0.0.1', () => console.log('listening'));

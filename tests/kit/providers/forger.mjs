// oauth2-mock-server: signs whatever it is asked to, and answers with any status. Environment: PORT.
// POST /token with `forge` = {"header": {...}, "payload": {...}} changes the token before it is signed (null takes away).
// A redirect URI with `?forge=JSON` changes the ID token of that login likewise, and no other token.
// POST /introspect?say=JSON answers with the status and body in it.
import { load } from './modules.mjs';

const { OAuth2Server } = await load('oauth2-mock-server');
const port = Number(process.env.PORT);
const server = new OAuth2Server();
await server.issuer.keys.generate('RS256', { kid: 'first' });

server.service.on('beforeTokenSigning', (token, request) => {
  const { forge: asked, redirect_uri: redirect } = request.body;
  const ofLogin = redirect && token.payload.aud && new URL(redirect).searchParams.get('forge');
  const forge = JSON.parse(asked ?? (ofLogin || '{}'));
  for (const part of ['header', 'payload']) {
    for (const [name, value] of Object.entries(forge[part] ?? {})) {
      if (value === null) delete token[part][name];
      else token[part][name] = value;
    }
  }
});
server.service.on('beforeIntrospect', (response, request) => {
  const wanted = JSON.parse(request.query.say);
  response.statusCode = wanted.status ?? 200;
  response.body = wanted.body ?? {};
});
process.on('SIGUSR2', async () => {
  await server.issuer.keys.generate('RS256', { kid: `later-${Date.now()}` });
  console.log('another key');
});

await server.start(port, '127.0.0.1');
server.issuer.url = `http://127.0.0.1:${port}`;
console.log('listening');

// npm's oidc-provider as an authorization server on mutual TLS: the settings with which an authorization server that does not
// know TLS-session-bound tokens issues them. For sdk/testkit/tests/it/oidc_provider.rs, and as an example of these settings.
//
//     node server.js DIR
//
// DIR holds ca.pem, and localhost.pem with its key localhost-key.pem. Writes DIR/refresh-token, of agent-refresh for somebody who
// has signed in. Prints one line, the issuer, when it is ready, and ends when its standard input does.

import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';

import { Provider } from 'oidc-provider';

const LABEL = 'EXPORTER-oauth-tls-session-bound'; // TK-1

// The resource servers, with the format of their tokens.
const RESOURCES = { 'https://jwt.example': 'jwt', 'https://opaque.example': 'opaque' };

const client = (id, more) => ({
  client_id: id,
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_subject_dn: `CN=${more.subject ?? id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  ...more.metadata,
});

const CLIENTS = [
  client('agent', {
    metadata: { tls_client_certificate_bound_access_tokens: true, tls_session_bound_access_tokens: true }, // TK-3
  }),
  // What it issues by itself: no tls_exp.
  client('agent-certificate', { subject: 'agent', metadata: { tls_client_certificate_bound_access_tokens: true } }),
  client('agent-refresh', {
    subject: 'agent',
    metadata: { grant_types: ['refresh_token'], tls_client_certificate_bound_access_tokens: true },
  }),
  client('agent-dpop', { subject: 'agent', metadata: { dpop_bound_access_tokens: true } }),
  client('resource-server', {}), // introspects tokens
];

// oidc-provider sets cnf['x5t#S256'] itself; it does not know tls_exp.
function bindToSession(client, claims) {
  if (client?.tls_session_bound_access_tokens && claims.cnf?.['x5t#S256']) {
    claims.cnf.tls_exp = LABEL;
  }
}

const configuration = {
  clients: CLIENTS,
  clientAuthMethods: ['tls_client_auth'],
  clientDefaults: { id_token_signed_response_alg: 'ES256' }, // the only key
  extraClientMetadata: { properties: ['tls_session_bound_access_tokens'] },
  jwks: { keys: [signingKey()] },
  scopes: ['read', 'offline_access'],
  responseTypes: [],
  rotateRefreshToken: true,
  ttl: { Grant: 3600, RefreshToken: 3600 }, // without it a notice stands where the issuer should
  issueRefreshToken: () => true,
  formats: {
    customizers: {
      jwt: (ctx, token, jwt) => bindToSession(ctx.oidc.client, jwt.payload),
    },
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === 'resource-server' },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      getCertificate: ({ socket }) => {
        const { raw } = socket.getPeerCertificate();
        return raw && new X509Certificate(raw);
      },
      certificateAuthorized: ({ socket }) => socket.authorized,
      certificateSubjectMatches: ({ socket }, property, expected) =>
        property === 'tls_client_auth_subject_dn' && expected === `CN=${socket.getPeerCertificate().subject.CN}`,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => {
        if (!(resource in RESOURCES)) throw new Error(`no such resource: ${resource}`);
        return {
          audience: resource,
          scope: 'read',
          accessTokenTTL: 600,
          accessTokenFormat: RESOURCES[resource],
          jwt: { sign: { alg: 'ES256' } },
        };
      },
    },
  },
};

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'es256' };
}

// What a sign-in leaves behind.
async function signIn(provider) {
  const client = await provider.Client.find('agent-refresh');
  const [accountId, resource, scope] = ['alice', 'https://jwt.example', 'read'];
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addResourceScope(resource, scope);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({ accountId, client, grantId, resource, scope, gty: 'authorization_code' });
  return token.save();
}

async function main(dir) {
  const read = (name) => readFileSync(join(dir, name));
  const server = createServer({
    cert: read('localhost.pem'),
    key: read('localhost-key.pem'),
    ca: read('ca.pem'),
    requestCert: true,
    rejectUnauthorized: false, // the key set is public; the endpoints check the certificate
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const issuer = `https://localhost:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  // The `cnf` of an opaque token is in the introspection response, which has no customizer.
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.oidc?.route === 'introspection' && ctx.body?.active) {
      bindToSession(await provider.Client.find(ctx.body.client_id), ctx.body);
    }
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());

  writeFileSync(join(dir, 'refresh-token'), await signIn(provider), { mode: 0o600 });
  console.log(issuer);
  process.stdin.resume().on('end', () => process.exit());
}

await main(process.argv[2]);

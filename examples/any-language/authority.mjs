// An authorization server: npm's oidc-provider, with certificate-bound access tokens (RFC 8705). It knows nothing of bowline.

import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

import { Provider } from 'oidc-provider';

const ISSUER = 'https://localhost:9443';
const RESOURCE = 'https://localhost:8443/mcp';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

const provider = new Provider(ISSUER, {
  clients: [
    {
      client_id: 'agent',
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: 'CN=agent',
      tls_client_certificate_bound_access_tokens: true,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  clientAuthMethods: ['tls_client_auth'],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'es256' }] },
  responseTypes: [],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
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
        expected === `CN=${socket.getPeerCertificate().subject.CN}`,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource) => {
        if (resource !== RESOURCE) throw new Error(`no such resource: ${resource}`);
        return { audience: RESOURCE, scope: '', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
      },
    },
  },
});

createServer(
  {
    cert: readFileSync('pki/server.pem'),
    key: readFileSync('pki/server.key'),
    ca: readFileSync('pki/ca.pem'),
    requestCert: true,
    rejectUnauthorized: false, // the key set is for everybody
  },
  provider.callback(),
).listen(9443, '127.0.0.1', () => console.log(`listening at ${ISSUER}`));

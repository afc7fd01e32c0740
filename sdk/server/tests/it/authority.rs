//! An authorization server that only signs tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{AccessToken, EXPORTER_LABEL};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://authority.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";

/// Ed25519, because its JWS signatures need no conversion.
pub(crate) struct Authority {
    pub(crate) kid: &'static str,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self {
            kid,
            key: KeyPair::generate_for(&PKCS_ED25519).unwrap(),
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.key.der_bytes());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig" })
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": self.kid })
    }

    pub(crate) fn claims() -> Value {
        json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": 4_000_000_000_u64, "sub": "agent" })
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> AccessToken {
        self.sign_text(header, &claims.to_string())
    }

    /// With claims that no JSON library would write.
    pub(crate) fn sign_text(&self, header: &Value, claims: &str) -> AccessToken {
        let encoded = |part: &str| URL_SAFE_NO_PAD.encode(part);
        let signed = format!("{}.{}", encoded(&header.to_string()), encoded(claims));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        AccessToken::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))).unwrap()
    }

    pub(crate) fn bearer(&self) -> AccessToken {
        self.sign(&self.header(), &Self::claims())
    }

    /// A token bound to the TLS sessions of the client with this certificate.
    pub(crate) fn session_bound(&self, thumbprint: &str) -> AccessToken {
        let mut claims = Self::claims();
        claims["cnf"] = json!({ "x5t#S256": thumbprint, "tls_exp": EXPORTER_LABEL });
        self.sign(&self.header(), &claims)
    }

    /// A token bound to this certificate by RFC 8705.
    pub(crate) fn certificate_bound(&self, thumbprint: &str) -> AccessToken {
        let mut claims = Self::claims();
        claims["cnf"] = json!({ "x5t#S256": thumbprint });
        self.sign(&self.header(), &claims)
    }
}

pub(crate) fn jwks(keys: &[&Authority]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|authority| authority.jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

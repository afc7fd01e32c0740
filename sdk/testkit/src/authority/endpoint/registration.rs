//! Dynamic client registration (RFC 7591), open to every caller: TK-3 as it goes over the wire.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Port;
use super::rejection::{Rejection, uncached};
use crate::authority::token::unique;
use crate::authority::{Client, ClientAuthentication, TokenBinding};

/// The members that are understood; others are ignored (RFC 7591 §2).
#[derive(Deserialize)]
struct Metadata {
    client_name: Option<String>,
    token_endpoint_auth_method: String,
    tls_client_auth_subject_dn: Option<String>,
    jwks: Option<JwkSet>,
    #[serde(default)]
    tls_client_certificate_bound_access_tokens: bool,
    #[serde(default)]
    tls_session_bound_access_tokens: bool,
}

/// `POST /register`.
pub(super) async fn register(
    State(port): State<Arc<Port>>,
    body: Bytes,
) -> Result<Response, Rejection> {
    let metadata: Metadata = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not a client's metadata: {error}")))?;
    let client = Client {
        authentication: metadata.authentication()?,
        binding: metadata.binding(),
        ..Client::new(&unique())
    };
    let answer = metadata.answer(&client);
    port.state.registry.insert(client);
    Ok(uncached(StatusCode::CREATED, answer, None))
}

impl Metadata {
    fn authentication(&self) -> Result<ClientAuthentication, Rejection> {
        let keys = || {
            let keys = self.jwks.clone().filter(|jwks| !jwks.keys.is_empty());
            keys.ok_or_else(|| invalid("jwks is missing, or empty"))
        };
        match &*self.token_endpoint_auth_method {
            "tls_client_auth" => {
                let subject = self.tls_client_auth_subject_dn.as_deref();
                let name = subject
                    .and_then(|dn| dn.strip_prefix("CN="))
                    .filter(|cn| !cn.contains([',', '+', '\\']));
                let name = name.ok_or_else(|| {
                    invalid("tls_client_auth_subject_dn must be CN= and a common name only")
                })?;
                Ok(ClientAuthentication::Tls {
                    subject: name.to_owned(),
                })
            }
            "self_signed_tls_client_auth" => Ok(ClientAuthentication::SelfSignedTls {
                certificates: certificates(&keys()?)?,
            }),
            "private_key_jwt" => Ok(ClientAuthentication::PrivateKeyJwt { keys: keys()? }),
            _ => Err(invalid(format!(
                "token_endpoint_auth_method must be one of {}",
                ClientAuthentication::NAMES.join(", ")
            ))),
        }
    }

    /// TK-3, RFC 8705 §3.4: both are false by default.
    fn binding(&self) -> TokenBinding {
        match (
            self.tls_session_bound_access_tokens,
            self.tls_client_certificate_bound_access_tokens,
        ) {
            (true, _) => TokenBinding::Session,
            (false, true) => TokenBinding::Certificate,
            (false, false) => TokenBinding::Bearer,
        }
    }

    /// RFC 7591 §3.2.1: everything that has been registered.
    fn answer(&self, client: &Client) -> Value {
        let mut answer = json!({
            "client_id": client.id,
            "token_endpoint_auth_method": client.authentication.name(),
            "tls_client_certificate_bound_access_tokens": client.binding != TokenBinding::Bearer,
            "tls_session_bound_access_tokens": client.binding == TokenBinding::Session,
        });
        if let Some(name) = &self.client_name {
            answer["client_name"] = json!(name);
        }
        if let Some(subject) = &self.tls_client_auth_subject_dn {
            answer["tls_client_auth_subject_dn"] = json!(subject);
        }
        if let Some(jwks) = &self.jwks {
            answer["jwks"] = json!(jwks);
        }
        answer
    }
}

/// RFC 8705 §2.2.2: each key comes with its certificate, the first of `x5c` (RFC 7517 §4.7).
fn certificates(keys: &JwkSet) -> Result<Vec<CertificateDer<'static>>, Rejection> {
    let certificate = |key: &jsonwebtoken::jwk::Jwk| {
        let der = STANDARD
            .decode(key.common.x509_chain.as_ref()?.first()?)
            .ok()?;
        Some(CertificateDer::from(der))
    };
    let certificates: Option<Vec<_>> = keys.keys.iter().map(certificate).collect();
    certificates.ok_or_else(|| {
        invalid("each key of jwks must have x5c, with the client's certificate first")
    })
}

/// RFC 7591 §3.2.2.
fn invalid(description: impl Into<String>) -> Rejection {
    Rejection::new("invalid_client_metadata", description)
}

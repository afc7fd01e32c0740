//! The introspection endpoint, and how this server authenticates to it (RFC 7662 section 2.1).

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::AccessToken;
use form_urlencoded::{Serializer, byte_serialize};
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::RequestBuilder;

use crate::endpoint::{Endpoint, EndpointError, EndpointResponse};

/// A longer response is refused.
const MAX_RESPONSE: usize = 64 * 1024;

const MARGIN: Duration = Duration::from_secs(1);

/// The URL of the introspection endpoint and the credentials for it. Responses are read up to 64
/// KiB, and redirects are not followed.
#[derive(Clone)]
pub struct IntrospectionEndpoint {
    endpoint: Endpoint,
    authorization: Option<HeaderValue>,
    client_id: Option<String>,
}

impl IntrospectionEndpoint {
    /// An `https` URL whose server the platform's roots verify; or an `http` URL on loopback.
    ///
    /// # Errors
    /// It is not a URL, or an attacker on the network path could read tokens.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            endpoint: Endpoint::new("the introspection endpoint", url)?,
            authorization: None,
            client_id: None,
        })
    }

    /// Trusts these CA certificates (PEM) instead of the platform's.
    ///
    /// # Errors
    /// There is no certificate in the text, or one that cannot be read.
    pub fn trust_only_pem(mut self, roots: &[u8]) -> Result<Self, EndpointError> {
        self.endpoint = self.endpoint.trust_only_pem(roots)?;
        Ok(self)
    }

    /// Authenticates as `client_id` with this certificate chain and private key (PEM, one after the
    /// other in one text): `tls_client_auth` or `self_signed_tls_client_auth` (RFC 8705 section 2).
    ///
    /// # Errors
    /// A part is missing or cannot be read, or the key is another certificate's.
    pub fn mutual_tls(
        mut self,
        client_id: impl Into<String>,
        chain_and_key: &[u8],
    ) -> Result<Self, EndpointError> {
        self.endpoint = self.endpoint.identity_pem(chain_and_key)?;
        self.client_id = Some(client_id.into());
        Ok(self)
    }

    /// Authenticates with HTTP Basic: `client_secret_basic` (RFC 6749 section 2.3.1).
    #[must_use]
    pub fn basic(mut self, client_id: &str, client_secret: &str) -> Self {
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(client_id), encoded(client_secret));
        self.authorization = Some(secret_field(&format!("Basic {}", STANDARD.encode(pair))));
        self
    }

    /// Authenticates with an access token of this server's own (RFC 7662 section 2.1).
    #[must_use]
    pub fn bearer(mut self, token: &AccessToken) -> Self {
        self.authorization = Some(token.authorization().clone());
        self
    }

    /// The caller enforces and reports `limit`; the HTTP client's own time-out ends the exchange a
    /// moment later.
    pub(super) async fn ask(
        &self,
        token: &AccessToken,
        limit: Duration,
    ) -> Result<EndpointResponse, EndpointError> {
        self.endpoint
            .send(self.request(token, limit), MAX_RESPONSE)
            .await
    }

    fn request(&self, token: &AccessToken, limit: Duration) -> RequestBuilder {
        let mut request = self
            .endpoint
            .post()
            .timeout(limit.saturating_add(MARGIN))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(self.form(token));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request
    }

    fn form(&self, token: &AccessToken) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("token", token.secret())
            .append_pair("token_type_hint", "access_token");
        if let Some(client_id) = &self.client_id {
            form.append_pair("client_id", client_id);
        }
        form.finish()
    }
}

fn secret_field(text: &str) -> HeaderValue {
    let mut field = HeaderValue::from_str(text).expect("base64 is printable ASCII");
    field.set_sensitive(true);
    field
}

impl fmt::Display for IntrospectionEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// Shows no credentials.
impl fmt::Debug for IntrospectionEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IntrospectionEndpoint({self})")
    }
}

#[cfg(test)]
mod tests;

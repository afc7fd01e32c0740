//! An authority, an agent with a certificate, a server, and tokens of every kind, all of the same
//! length.

use std::sync::Arc;

use bowline_http_client::{Builder, Client, DpopKey, HttpVersions, Identity, Trust};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{Leaf, Pki};
use http::{HeaderMap, HeaderValue, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The TLS credentials of one end: a certificate, its key, and the authority to trust. PEM, so that
/// they can be passed to another process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) authority: String,
}

/// The HTTP version of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Http {
    H1,
    H2,
}

impl Http {
    pub(crate) const BOTH: [Self; 2] = [Self::H1, Self::H2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }

    pub(crate) fn alpn(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}

/// Everything that a bench needs except a server.
pub(crate) struct Fixture {
    pki: Pki,
    pub(crate) agent: Leaf,
    pub(crate) authority: Authority,
    pub(crate) dpop_key: DpopKey,
}

/// The audience of the tokens.
pub(crate) const AUDIENCE: &str = "https://resource.example";

/// The length of the longest token, the session-bound one, whose `cnf` is longest.
const TOKEN_BYTES: usize = 700;

impl Fixture {
    /// Inside a runtime: the authority has a socket, although the benches send it no request.
    pub(crate) fn new() -> Self {
        let (pki, agent) = Pki::with_agent();
        let options = AuthorityOptions {
            lifetime: std::time::Duration::from_secs(24 * 3600),
            audience: AUDIENCE.to_owned(),
            ..AuthorityOptions::default()
        };
        let authority = Authority::start(&pki, options);
        Self {
            pki,
            agent,
            authority,
            dpop_key: DpopKey::generate().expect("randomness"),
        }
    }

    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(crate) fn client(&self) -> Credentials {
        self.credentials_for(&self.agent)
    }

    pub(crate) fn server(&self) -> Credentials {
        self.credentials_for(&self.pki.localhost())
    }

    fn credentials_for(&self, leaf: &Leaf) -> Credentials {
        Credentials {
            chain: leaf.chain_pem().to_owned(),
            key: leaf.key_pem().to_owned(),
            authority: self.pki.ca_pem(),
        }
    }

    pub(crate) fn bearer(&self) -> String {
        self.issue(TokenRequest::bearer("agent"))
    }

    pub(crate) fn session_bound(&self) -> String {
        self.issue(TokenRequest::session_bound(
            "agent",
            self.agent.thumbprint(),
        ))
    }

    pub(crate) fn dpop_bound(&self) -> String {
        let cnf = json!({ "jkt": self.dpop_key.thumbprint().to_string() });
        self.issue(TokenRequest::bearer("agent").cnf(cnf))
    }

    /// Pads the token with scope, so that all contenders send the same amount.
    fn issue(&self, request: TokenRequest) -> String {
        let padded = |padding: usize| {
            self.authority
                .issue(&request.clone().scope("s".repeat(padding)))
        };
        // Three bytes are four characters of base64url, and two more are a character or two.
        let mut padding = (TOKEN_BYTES - padded(1).len()) / 4 * 3;
        while padded(padding).len() < TOKEN_BYTES {
            padding += 1;
        }
        padded(padding)
    }
}

impl Credentials {
    /// The TLS configuration for reqwest and the bare hyper connections, equal to the one that a
    /// bowline client makes.
    pub(crate) fn tls(&self, http: Http) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.authorities());
        let chain =
            CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder
            .expect("the provider has all versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.expect("certificates"), key)
            .expect("the key was made for the certificate");
        config.require_ems = true;
        config.alpn_protocols = vec![http.alpn().as_bytes().to_vec()];
        Arc::new(config)
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes()).expect("a pair")
    }

    pub(crate) fn bowline(&self, http: Http) -> Builder {
        Client::builder()
            .identity(self.identity())
            .trust(Trust::from_der(self.authorities()).expect("an authority"))
            .http_versions(match http {
                Http::H1 => HttpVersions::Http1,
                Http::H2 => HttpVersions::Http2,
            })
    }

    fn authorities(&self) -> Vec<CertificateDer<'static>> {
        let authorities = CertificateDer::pem_slice_iter(self.authority.as_bytes());
        authorities.collect::<Result<_, _>>().expect("certificates")
    }
}

/// The header fields that every contender sends, apart from credentials, with a tool call of 200
/// bytes.
pub(crate) fn headers() -> HeaderMap {
    let accept = HeaderValue::from_static("application/json, text/event-stream");
    HeaderMap::from_iter([
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (header::ACCEPT, accept),
    ])
}

pub(crate) const BODY: &[u8; 200] = br#"{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"quarterly revenue by region","limit":10,"cursor":"eyJvZmZzZXQiOjEyMCwic2hhcmQiOjd9ABCDEFG"}}}"#;

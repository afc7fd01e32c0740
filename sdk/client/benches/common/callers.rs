//! The contenders: one request, sent by different clients. Each builds the request anew every time,
//! reads the response to its end, and panics if the status is not 200.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bowline_http_client::{AccessToken, Client, Scheme};
use bowline_proof::dpop::{Claims, DPOP_HEADER, DpopKey};
use bowline_proof::{ExporterValue, PROOF_HEADER, ProofClaims, RequestClaims};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fixture::{BODY, Credentials, Http, headers};
use super::server::DESCRIBE;

/// A client that sends the request.
pub(crate) trait Caller: Send + 'static {
    /// Sends it with further header fields, and returns the body of the response.
    fn send(
        &mut self,
        more: Option<(&'static str, HeaderValue)>,
    ) -> impl Future<Output = Bytes> + Send;

    /// Sends the request that is measured.
    fn call(&mut self) -> impl Future<Output = ()> + Send {
        async {
            let answer = self.send(None).await;
            assert_eq!(answer.len(), 100, "an unexpected response");
        }
    }

    /// The request as the server received it.
    fn describe(&mut self) -> impl Future<Output = String> + Send {
        async {
            let answer = self
                .send(Some((DESCRIBE, HeaderValue::from_static("1"))))
                .await;
            String::from_utf8_lossy(&answer).replace("\"bench-describe: 1\", ", "")
        }
    }
}

const PATH: &str = "/mcp";

fn with(template: &HeaderMap, more: Option<(&'static str, HeaderValue)>) -> HeaderMap {
    let mut headers = template.clone();
    headers.extend(more.map(|(name, value)| (http::HeaderName::from_static(name), value)));
    headers
}

fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).expect("a field value");
    value.set_sensitive(true);
    value
}

/// A pooled reqwest client with a bearer token, or with a token and a new DPoP proof for each
/// request.
#[derive(Clone)]
pub(crate) struct Reqwest {
    client: reqwest::Client,
    url: reqwest::Url,
    template: HeaderMap,
    dpop: Option<Arc<Dpop>>,
}

struct Dpop {
    key: DpopKey,
    token: AccessToken,
    uri: Uri,
}

impl Reqwest {
    pub(crate) fn bearer(credentials: &Credentials, http: Http, origin: &str, token: &str) -> Self {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(ClientConfig::clone(&credentials.tls(http)));
        let client = match http {
            Http::H1 => client.http1_only(),
            Http::H2 => client.http2_prior_knowledge(),
        };
        let mut template = headers();
        template.insert(header::AUTHORIZATION, sensitive(&format!("Bearer {token}")));
        Self {
            client: client.build().expect("a usable configuration"),
            url: format!("{origin}{PATH}").parse().expect("a URL"),
            template,
            dpop: None,
        }
    }

    /// The proof is made on the task that makes the request, which is the fastest way.
    pub(crate) fn dpop(
        credentials: &Credentials,
        http: Http,
        origin: &str,
        token: &str,
        key: &DpopKey,
    ) -> Self {
        let mut caller = Self::bearer(credentials, http, origin, token);
        caller
            .template
            .insert(header::AUTHORIZATION, sensitive(&format!("DPoP {token}")));
        caller.dpop = Some(Arc::new(Dpop {
            key: key.clone(),
            token: AccessToken::new(token).expect("a token"),
            uri: format!("{origin}{PATH}").parse().expect("a URI"),
        }));
        caller
    }
}

impl Dpop {
    fn proof(&self) -> HeaderValue {
        let claims = Claims {
            request: &RequestClaims::new(&Method::POST, &self.uri).expect("an htu"),
            issued_at: UnixTime::now(),
            token: Some(self.token.hash()),
            nonce: None,
        };
        self.key.mint(&claims).expect("a signature").header_value()
    }
}

impl Caller for Reqwest {
    async fn send(&mut self, more: Option<(&'static str, HeaderValue)>) -> Bytes {
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        *request.headers_mut() = with(&self.template, more);
        if let Some(dpop) = &self.dpop {
            request.headers_mut().insert(DPOP_HEADER, dpop.proof());
        }
        *request.body_mut() = Some(Bytes::from_static(BODY).into());
        let response = self.client.execute(request).await.expect("an answer");
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{:?}",
            response.headers()
        );
        response.bytes().await.expect("a whole body")
    }
}

/// One bare hyper connection, with or without the proof that belongs to it.
pub(crate) struct Hyper {
    sender: Sender,
    uri: Uri,
    template: HeaderMap,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Hyper {
    /// Opens the connection. The token goes with a proof if there is a `prover`.
    pub(crate) async fn connect(
        tls: &Arc<ClientConfig>,
        http: Http,
        origin: &str,
        token: &str,
        prover: Option<&Credentials>,
    ) -> Self {
        let uri: Uri = format!("{origin}{PATH}").parse().expect("a URI");
        let authority = uri.authority().expect("an authority").to_string();
        let tcp = TcpStream::connect(&authority).await.expect("a server");
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(tls.clone())
            .connect(name, tcp)
            .await
            .expect("a handshake");
        let mut template = headers();
        template.insert(header::AUTHORIZATION, sensitive(&format!("Bearer {token}")));
        if let Some(credentials) = prover {
            let token = AccessToken::new(token).expect("a token");
            let claims = ProofClaims {
                token: token.hash(),
                exporter: &ExporterValue::derive(stream.get_ref().1)
                    .expect("a completed handshake"),
                issued_at: UnixTime::now(),
                request: None,
            };
            let proof = credentials
                .identity()
                .proof_key()
                .mint(&claims)
                .expect("a signature");
            template.insert(PROOF_HEADER, proof.header_value());
        }
        let io = TokioIo::new(stream);
        let (sender, uri) = match http {
            Http::H1 => {
                template.insert(
                    header::HOST,
                    HeaderValue::from_str(&authority).expect("a host"),
                );
                let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                (Sender::H1(sender), Uri::from_static(PATH))
            }
            Http::H2 => {
                let handshake = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = handshake.expect("HTTP/2");
                tokio::spawn(connection);
                (Sender::H2(sender), uri)
            }
        };
        Self {
            sender,
            uri,
            template,
        }
    }

    /// Another caller on the same connection, if the protocol allows it (HTTP/2).
    pub(crate) fn shared(&self) -> Option<Self> {
        let Sender::H2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::H2(sender.clone()),
            uri: self.uri.clone(),
            template: self.template.clone(),
        })
    }
}

impl Caller for Hyper {
    async fn send(&mut self, more: Option<(&'static str, HeaderValue)>) -> Bytes {
        let mut request = Request::new(Full::new(Bytes::from_static(BODY)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = with(&self.template, more);
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.expect("an open connection");
                sender.send_request(request).await
            }
            Sender::H2(sender) => sender.send_request(request).await,
        };
        let response = response.expect("an answer");
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{:?}",
            response.headers()
        );
        response
            .into_body()
            .collect()
            .await
            .expect("a whole body")
            .to_bytes()
    }
}

/// A bowline client.
#[derive(Clone)]
pub(crate) struct Bowline {
    pub(crate) client: Client,
    uri: Uri,
    template: HeaderMap,
    /// Each request carries the next of these. Empty if `template` has the token as a string.
    tokens: Arc<[AccessToken]>,
    next: usize,
}

impl Bowline {
    pub(crate) fn new(client: Client, origin: &str, token: &str) -> Self {
        Self::with_tokens(client, origin, &[token.to_owned()])
    }

    /// The requests use the tokens in turn.
    pub(crate) fn with_tokens(client: Client, origin: &str, tokens: &[String]) -> Self {
        Self {
            client,
            uri: format!("{origin}{PATH}").parse().expect("a URI"),
            template: headers(),
            tokens: tokens
                .iter()
                .map(|token| AccessToken::new(token).expect("a token"))
                .collect(),
            next: 0,
        }
    }

    /// With the token in `Authorization`, from which the client must read and hash it for each
    /// request.
    pub(crate) fn with_authorization(client: Client, origin: &str, token: &str) -> Self {
        let mut caller = Self::with_tokens(client, origin, &[]);
        let field = HeaderValue::from_str(&format!("Bearer {token}")).expect("a field value");
        caller.template.insert(header::AUTHORIZATION, field);
        caller
    }

    /// The same at another origin.
    pub(crate) fn at(&self, origin: &str) -> Self {
        Self {
            uri: format!("{origin}{PATH}").parse().expect("a URI"),
            ..self.clone()
        }
    }

    /// With the tokens marked as DPoP tokens, because their `cnf` does not say so.
    pub(crate) fn by_dpop(mut self) -> Self {
        let marked = self
            .tokens
            .iter()
            .map(|token| token.clone().with_scheme(Scheme::Dpop));
        self.tokens = marked.collect();
        self
    }

    fn request(&mut self, more: Option<(&'static str, HeaderValue)>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(BODY)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = with(&self.template, more);
        if let Some(token) = self.tokens.get(self.next) {
            request.extensions_mut().insert(token.clone());
            self.next = (self.next + 1) % self.tokens.len();
        }
        request
    }

    /// Sends a request and does not read its response: the connection, or one stream of it, stays
    /// in use.
    pub(crate) async fn hold(&mut self) -> bowline_http_client::Body {
        self.answer(None).await
    }

    async fn answer(
        &mut self,
        more: Option<(&'static str, HeaderValue)>,
    ) -> bowline_http_client::Body {
        let request = self.request(more);
        let response = self.client.send(request).await.expect("an answer");
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{:?}",
            response.headers()
        );
        response.into_body()
    }
}

impl Caller for Bowline {
    async fn send(&mut self, more: Option<(&'static str, HeaderValue)>) -> Bytes {
        let body = self.answer(more).await;
        body.collect().await.expect("a whole body").to_bytes()
    }
}

/// Limits under which a bowline client keeps every connection that a bench opens.
pub(crate) fn unlimited(connections: usize) -> bowline_http_client::Limits {
    let mut limits = bowline_http_client::Limits::default();
    limits.per_origin = connections;
    limits.in_all = connections;
    limits.idle = Duration::from_secs(3600);
    limits
}

/// A caller chosen at run time: for counts, where dynamic dispatch costs nothing.
pub(crate) enum AnyCaller {
    Reqwest(Reqwest),
    Hyper(Hyper),
    Bowline(Bowline),
}

impl Caller for AnyCaller {
    async fn send(&mut self, more: Option<(&'static str, HeaderValue)>) -> Bytes {
        match self {
            Self::Reqwest(caller) => caller.send(more).await,
            Self::Hyper(caller) => caller.send(more).await,
            Self::Bowline(caller) => caller.send(more).await,
        }
    }
}

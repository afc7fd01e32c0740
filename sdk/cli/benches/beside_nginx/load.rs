//! An agent with a session-bound token: bare hyper connections, each with the proof that belongs to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER, ProofClaims, ProofKey};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{Leaf, Pki};
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::SupportedCipherSuite;
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::proxies::{Proxies, Proxy};

const CALL: &[u8; 200] = br#"{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"quarterly revenue by region","limit":10,"cursor":"eyJvZmZzZXQiOjEyMCwic2hhcmQiOjd9ABCDEFG"}}}"#;

pub(crate) struct Agent {
    pub(crate) pki: Pki,
    pub(crate) authority: Authority,
    leaf: Leaf,
    token: AccessToken,
}

impl Agent {
    pub(crate) fn new() -> Self {
        let (pki, leaf) = Pki::with_agent();
        let options = AuthorityOptions {
            lifetime: Duration::from_secs(24 * 3600),
            ..AuthorityOptions::default()
        };
        let authority = Authority::start(&pki, options);
        let request = TokenRequest::session_bound("agent", leaf.thumbprint());
        let token = AccessToken::new(authority.issue(&request)).expect("a token");
        Self {
            pki,
            authority,
            leaf,
            token,
        }
    }

    async fn connect(&self, port: u16, alpn: Alpn) -> (Caller, SupportedCipherSuite) {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await;
        let tcp = tcp.expect("a server");
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let config = TlsOptions::alpn(alpn).client(&self.pki, Some(&self.leaf));
        let stream = TlsConnector::from(config).connect(name, tcp).await;
        let stream = stream.expect("a handshake");
        let tls = stream.get_ref().1;
        let suite = tls.negotiated_cipher_suite().expect("a handshake");
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        headers.insert(header::AUTHORIZATION, self.token.authorization().clone());
        headers.insert(PROOF_HEADER, self.proof(tls));
        let io = TokioIo::new(stream);
        let (sender, uri) = match alpn {
            Alpn::Http2 => {
                let (sender, driver) = http2::handshake(TokioExecutor::new(), io)
                    .await
                    .expect("HTTP/2");
                tokio::spawn(driver);
                (Sender::H2(sender), format!("https://localhost:{port}/mcp"))
            }
            _ => {
                let host = HeaderValue::from_str(&format!("localhost:{port}"));
                headers.insert(header::HOST, host.expect("a host"));
                let (sender, driver) = http1::handshake(io).await.expect("HTTP/1.1");
                tokio::spawn(driver);
                (Sender::H1(sender), "/mcp".to_owned())
            }
        };
        let caller = Caller {
            sender,
            uri: uri.parse().expect("a URI"),
            headers,
        };
        (caller, suite)
    }

    fn proof(&self, tls: &rustls::ClientConnection) -> HeaderValue {
        let key = ProofKey::new(self.leaf.certificate(), self.leaf.signing_key());
        let claims = ProofClaims {
            token: self.token.hash(),
            exporter: &ExporterValue::derive(tls).expect("a completed handshake"),
            issued_at: UnixTime::now(),
            request: None,
        };
        let proof = key.expect("a key that fits").mint(&claims);
        proof.expect("a signature").header_value().clone()
    }
}

/// Sends one request after the other.
pub(crate) struct Caller {
    sender: Sender,
    uri: http::Uri,
    headers: HeaderMap,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    /// Another one on the same connection, if that is HTTP/2.
    fn shared(&self) -> Option<Self> {
        let Sender::H2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            sender: Sender::H2(sender.clone()),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
        })
    }

    async fn call(&mut self) -> (StatusCode, Bytes) {
        let mut request = Request::new(Full::new(Bytes::from_static(CALL)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await.expect("an open connection");
                sender.send_request(request).await
            }
            Sender::H2(sender) => sender.send_request(request).await,
        };
        let (parts, body) = response.expect("a response").into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        (parts.status, body)
    }
}

/// One connection for each of them, or for all if it is HTTP/2.
pub(crate) async fn callers(agent: &Agent, port: u16, alpn: Alpn, tasks: usize) -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    for _ in 0..tasks {
        let next = match callers.first().and_then(Caller::shared) {
            Some(shared) => shared,
            None => agent.connect(port, alpn).await.0,
        };
        callers.push(next);
    }
    callers
}

/// A contender's result in one round.
pub(crate) struct Turn {
    calls: u64,
    elapsed: Duration,
    /// Of the proxy alone.
    processor: Duration,
    /// In nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Turn {
    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn processor_micros(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.calls as f64
    }

    /// The share of the time in which the proxy was busy.
    pub(crate) fn busy(&self) -> f64 {
        self.processor.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

pub(crate) fn latencies() -> Histogram<u64> {
    // To a minute.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that are allowed")
}

/// Calls for this time.
pub(crate) async fn turn(callers: &mut Vec<Caller>, proxy: &Proxy, time: Duration) -> Turn {
    let stop = Arc::new(AtomicBool::new(false));
    let (started, busy) = (Instant::now(), proxy.processor_time());
    let tasks = callers.drain(..).map(|mut caller| {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut latencies = latencies();
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let (status, body) = caller.call().await;
                let took = started.elapsed().as_nanos();
                latencies.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                assert!(status == StatusCode::OK && body.len() == 100, "{status}");
            }
            (caller, latencies)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = latencies();
    for task in tasks {
        let (caller, latencies) = task.await.expect("a call failed");
        callers.push(caller);
        all.add(latencies).expect("the same bounds");
    }
    Turn {
        calls: all.len(),
        elapsed: started.elapsed(),
        processor: proxy.processor_time().saturating_sub(busy),
        latencies: all,
    }
}

/// Fails unless all answer the same, over the same cipher suite, and the ingress alone refuses a request
/// without its proof.
pub(crate) async fn assert_alike(agent: &Agent, proxies: &Proxies) {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let mut suites = Vec::new();
        let mut answers = Vec::new();
        for proxy in &proxies.all {
            let (mut caller, suite) = agent.connect(proxy.port, alpn).await;
            suites.push(suite);
            answers.push(caller.call().await);
            caller.headers.remove(PROOF_HEADER);
            let refuses = caller.call().await.0 == StatusCode::UNAUTHORIZED;
            assert_eq!(refuses, proxy.name == "ingress", "{}", proxy.name);
        }
        assert!(suites.windows(2).all(|two| two[0] == two[1]), "{suites:?}");
        assert!(
            answers.windows(2).all(|two| two[0] == two[1]),
            "{answers:?}"
        );
    }
}

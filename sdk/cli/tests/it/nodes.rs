//! Several nodes of one service: `--node-secrets` and `--replay-store`.

mod configuration;
mod restarts;
mod trouble;
mod two;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowline_proof::dpop::{Claims, DpopKey, Nonce};
use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER, RequestClaims, Scheme};
use bowline_testkit::authority::TokenRequest;
use bowline_testkit::peers::Redis;
use bowline_testkit::tls::Alpn;
use http::{HeaderValue, Method, StatusCode, request};
use rustls_pki_types::UnixTime;
use serde_json::json;

use crate::ingress::fixture::*;

/// The one origin of all nodes.
const ORIGIN: &str = "https://api.example.com";

/// What tells a node that it is one of several; the certificate names no such origin.
fn secrets(scene: &Scene) -> String {
    let secret = STANDARD.encode([7; 32]);
    scene.write_private("nodes.secret", format!("{secret}\n"))
}

/// An agent with a DPoP-bound token.
struct Agent {
    key: DpopKey,
    token: AccessToken,
}

impl Agent {
    fn new(scene: &Scene) -> Self {
        let key = DpopKey::generate().unwrap();
        let cnf = json!({ "jkt": key.thumbprint().to_string() });
        Self {
            token: scene.token(&TokenRequest::bearer("agent").cnf(cnf)),
            key,
        }
    }

    /// A proof that was never used.
    fn proof(&self, nonce: Option<&Nonce>) -> HeaderValue {
        let target = format!("{ORIGIN}/").parse().unwrap();
        let claims = Claims {
            request: &RequestClaims::new(&Method::GET, &target).unwrap(),
            token: Some(self.token.hash()),
            nonce,
            issued_at: UnixTime::now(),
        };
        self.key.mint(&claims).unwrap().header_value()
    }

    fn request(&self, proof: &HeaderValue) -> request::Builder {
        http::Request::builder()
            .uri("/")
            .header("authorization", self.token.authorization_as(Scheme::Dpop))
            .header("dpop", proof)
    }
}

/// Two nodes and one Redis.
struct Pair {
    scene: Scene,
    redis: Redis,
    _upstream: Upstream,
    ingresses: [Ingress; 2],
    nodes: [Http; 2],
    agent: Agent,
}

impl Pair {
    /// With these options of `redis-server`, and of both nodes.
    async fn start(redis: &[&str], options: &[&str]) -> Self {
        let redis = Redis::start(redis);
        Self::start_with(redis, options).await
    }

    async fn start_with(redis: Redis, options: &[&str]) -> Self {
        let (scene, upstream) = (Scene::new(), Upstream::echo());
        let (secrets, store) = (secrets(&scene), redis.url());
        let options = [&shared_options(&secrets, &store), options].concat();
        let is_patient = !options.contains(&PATIENT[0]);
        let options = [&options[..], if is_patient { &PATIENT } else { &[] }].concat();
        let one = scene.start(&upstream, &options).await;
        let two = scene.start(&upstream, &options).await;
        let ingresses = [one, two];
        Self {
            agent: Agent::new(&scene),
            nodes: connect(&scene, &ingresses).await,
            scene,
            redis,
            _upstream: upstream,
            ingresses,
        }
    }

    async fn reconnect(&mut self) {
        self.nodes = connect(&self.scene, &self.ingresses).await;
    }

    /// What a node answers to a request with this proof.
    async fn send(&mut self, node: usize, proof: &HeaderValue) -> Answer {
        self.nodes[node].get(self.agent.request(proof)).await
    }

    /// With a proof that was never used.
    async fn fresh(&mut self, node: usize) -> Answer {
        let proof = self.agent.proof(None);
        self.send(node, &proof).await
    }

    /// Waits until a node serves DPoP, or does not.
    async fn serves(&mut self, node: usize, wanted: bool) {
        let there = async {
            let status = if wanted {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            while self.fresh(node).await.status != status {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        within(there).await;
    }

    /// A session-bound request whose proof is for it alone: no store is asked.
    async fn session_bound(&mut self, node: usize) -> Answer {
        let token = self.scene.session_bound();
        let uri = format!("{ORIGIN}/");
        let http = &mut self.nodes[node];
        let request = Some((Method::GET, uri.as_str()));
        let proof = proof_for(&self.scene.agent, &token, &http.exporter, request);
        let request = with_token(&token).header(PROOF_HEADER, proof.header_value());
        http.get(request).await
    }
}

/// What all nodes of one service are told.
fn shared_options<'a>(secrets: &'a str, store: &'a str) -> [&'a str; 8] {
    [
        "--policy",
        "follow",
        "--external-origin",
        ORIGIN,
        "--node-secrets",
        secrets,
        "--replay-store",
        store,
    ]
}

/// A Redis that answers is waited for, however busy this machine is.
const PATIENT: [&str; 2] = ["--replay-store-timeout", "10s"];

async fn connect(scene: &Scene, [one, two]: &[Ingress; 2]) -> [Http; 2] {
    [
        scene.connect(one, Alpn::Http2).await,
        scene.connect(two, Alpn::Http2).await,
    ]
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1", "{answer:?}");
    assert!(
        !answer.headers.contains_key("www-authenticate"),
        "{answer:?}"
    );
}

/// What a proxy says of a client, with a proof for one request, or for all of them.
fn attested(scene: &Scene, token: &AccessToken, is_for_one: bool) -> request::Builder {
    let uri = format!("{ORIGIN}/");
    let request = is_for_one.then_some((Method::GET, uri.as_str()));
    let exporter = ExporterValue::from_bytes([7; 32]);
    let proof = proof_for(&scene.agent, token, &exporter, request);
    attested_with(scene, token, &proof.header_value())
}

fn attested_with(scene: &Scene, token: &AccessToken, proof: &HeaderValue) -> request::Builder {
    let encode = |bytes: &[u8]| format!(":{}:", STANDARD.encode(bytes));
    with_token(token)
        .header(PROOF_HEADER, proof)
        .header("client-cert", encode(scene.agent.certificate()))
        .header("tls-exporter", encode(&[7; 32]))
}

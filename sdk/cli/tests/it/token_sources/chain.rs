//! A chain of three hops, each with mutual TLS, an ingress and an egress of the command:
//!
//! ```text
//! agent -> egress | ingress A -> service A -> egress | ingress B -> service B -> egress | ingress C
//! ```
//!
//! Each service's egress exchanges the token that its ingress has verified (AS-3). An attacker at each
//! hop has what that hop saw, and the certificate of that hop's service; none of it is of use at
//! another hop (T5), nor at the authorization server for anybody else (T6).

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use bowline_proof::AccessToken;
use bowline_testkit::authority::Client;
use bowline_testkit::pki::{KeyKind, Leaf};
use bowline_testkit::tls::{Alpn, TlsOptions};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::net::{Answer, answered, ask, claims};
use crate::agents::Service;
use crate::ingress::fixture::*;

/// A service, its ingress, and what it saw.
struct Hop {
    /// Its resource identifier, and that of its ingress.
    audience: String,
    ingress: Ingress,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    /// Its own certificate, as a client.
    leaf: Leaf,
    _upstream: Upstream,
}

/// The one before it, which calls it.
struct Caller {
    egress: Service,
}

struct Chain {
    scene: Scene,
    caller: Caller,
    hops: Vec<Hop>,
    /// The egresses of the services A and B.
    between: Vec<Service>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Chain {
    async fn new() -> Self {
        let scene = Scene::new();
        let mut hops: Vec<Hop> = Vec::new();
        let mut between = Vec::new();
        let mut next: Option<(String, String)> = None;
        // The last one first, since each must know the next.
        for name in NAMES.iter().rev() {
            let (hop, egress) = hop(&scene, name, next.as_ref()).await;
            next = Some((hop.ingress.origin(), hop.audience.clone()));
            hops.insert(0, hop);
            between.splice(..0, egress);
        }
        let (origin, audience) = next.expect("three hops");
        let token = format!(
            "source = \"oauth\", issuer = {:?}, client-id = \"agent\", resource = {audience:?}",
            scene.authority.issuer()
        );
        let egress = egress(&scene, "agent", &scene.agent, &origin, &token).await;
        Self {
            scene,
            caller: Caller { egress },
            hops,
            between,
        }
    }

    async fn call(&self) -> Answer {
        let url = format!("{}/things", self.hops[0].ingress.origin());
        ask(&self.caller.egress, "GET", &url, &[]).await
    }
}

/// A service that passes each request on to the next one, or is the last.
async fn hop(scene: &Scene, name: &str, next: Option<&(String, String)>) -> (Hop, Option<Service>) {
    let audience = format!("https://{name}.example");
    let client = format!("service-{name}");
    let leaf = scene.pki.client(&client, KeyKind::P256);
    scene.authority.register(Client {
        resources: vec![audience.clone()],
        ..Client::new(&client)
    });
    let key = scene.write_private(&format!("{name}.receipt"), name.repeat(40));
    let egress = match next {
        None => None,
        Some((origin, audience)) => {
            let token = format!(
                "source = \"exchange\", issuer = {:?}, client-id = {client:?}, resource = {audience:?}, \
                 receipt-key = \"@{key}\"",
                scene.authority.issuer()
            );
            Some(egress(scene, name, &leaf, origin, &token).await)
        }
    };
    let seen: Arc<Mutex<Vec<HeaderMap>>> = Arc::default();
    let onward = next.zip(egress.as_ref());
    let onward = onward.map(|((origin, _), egress)| (origin.clone(), egress.address.clone()));
    let upstream = {
        let seen = seen.clone();
        Upstream::start(move |request: Request<Incoming>| {
            let (seen, onward) = (seen.clone(), onward.clone());
            async move {
                seen.lock().unwrap().push(request.headers().clone());
                let Some((origin, egress)) = onward else {
                    return Response::new(whole("the end"));
                };
                pass_on(request.headers(), &origin, &egress).await
            }
        })
    };
    let jwks = scene.path("jwks.json").display().to_string();
    let options = [
        "--jwks",
        &jwks,
        "--issuer",
        scene.authority.issuer(),
        "--audience",
        &audience,
        "--policy",
        "require-session",
        "--receipt-key",
        &format!("@{key}"),
    ];
    let ingress = scene.start_with(&upstream.url(), &options).await;
    let hop = Hop {
        audience,
        ingress,
        seen,
        leaf,
        _upstream: upstream,
    };
    (hop, egress)
}

async fn egress(scene: &Scene, name: &str, leaf: &Leaf, origin: &str, token: &str) -> Service {
    let pem = scene.write_private(&format!("{name}.pem"), leaf.chain_pem());
    let key = scene.write_private(&format!("{name}-key.pem"), leaf.key_pem());
    let ca = scene.path("ca.pem");
    let config = format!(
        "cert = {pem:?}\nkey = {key:?}\ncacert = {ca:?}\n[[origin]]\nurl = {origin:?}\ntoken = {{ {token} }}\n"
    );
    let config = scene.write(&format!("{name}.toml"), config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command
        .args(["egress", "--config", &config])
        .kill_on_drop(true);
    Service::on_port(&mut command).await
}

/// What a service does for its caller: it copies two fields.
async fn pass_on(headers: &HeaderMap, origin: &str, egress: &str) -> Response<TestBody> {
    let host = origin.trim_start_matches("https://");
    let mut text =
        format!("GET http://{host}/things HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for name in ["authorization", "session-binding-receipt"] {
        for value in headers.get_all(name) {
            write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
    }
    let answer = say(egress, &format!("{text}\r\n")).await;
    let mut response = Response::new(whole(answer.text));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    response
}

async fn say(egress: &str, text: &str) -> Answer {
    let mut socket = TcpStream::connect(egress).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.unwrap();
    answered(&answer)
}

/// What a hop saw.
struct Loot {
    token: AccessToken,
    receipt: String,
}

impl Hop {
    fn loot(&self) -> Loot {
        let seen = self.seen.lock().unwrap();
        let field = |name: &str| seen[0][name].to_str().unwrap().to_owned();
        let token = field("authorization");
        Loot {
            token: AccessToken::new(token.trim_start_matches("Bearer ")).unwrap(),
            receipt: field("session-binding-receipt"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the counts")]
async fn what_each_hop_saw_is_of_no_use_at_another() {
    let chain = Chain::new().await;
    let answer = chain.call().await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("the end"), "{}", answer.text);
    let loot: Vec<Loot> = chain.hops.iter().map(Hop::loot).collect();

    // Each hop has a token of its own, for the same subject, with who acts.
    for (at, (hop, loot)) in chain.hops.iter().zip(&loot).enumerate() {
        let claims = claims(loot.token.secret());
        assert_eq!(
            (&claims["aud"], &claims["sub"]),
            (&hop.audience.clone().into(), &"agent".into())
        );
        let caller = [&chain.scene.agent, &chain.hops[0].leaf, &chain.hops[1].leaf][at];
        assert_eq!(claims["cnf"]["x5t#S256"], caller.thumbprint().to_string());
        let actors = [
            serde_json::Value::Null,
            serde_json::json!({ "sub": "service-a" }),
            serde_json::json!({ "sub": "service-b", "act": { "sub": "service-a" } }),
        ];
        assert_eq!(claims["act"], actors[at]);
    }
    assert_eq!(chain.scene.authority.exchanges(), 2);

    let mut refused = 0;
    for (from, loot) in loot.iter().enumerate() {
        for (to, hop) in chain.hops.iter().enumerate() {
            // The attacker's certificate is that of the service at that hop, or a stranger's; the
            // proof is theirs, on their own connection.
            for leaf in [&chain.hops[from].leaf, &chain.scene.thief] {
                let mut http = chain
                    .scene
                    .connect_as(&hop.ingress, Some(leaf), Alpn::Http1)
                    .await;
                let answer = http.get(http.proved(leaf, &loot.token)).await;
                // RS-2 (the audience) comes before RS-3 where both are wrong, or the other way.
                let challenge = answer.headers["www-authenticate"].to_str().unwrap();
                let expected = if from == to {
                    ["RS-3"; 2]
                } else {
                    ["RS-2", "RS-3"]
                };
                assert!(
                    expected
                        .iter()
                        .any(|id| challenge.contains(&format!("\"{id}: "))),
                    "{from} -> {to}: {answer:?}"
                );
                refused += 1;
            }
        }
        // At the egresses beside the services, with the receipt: one is for its own service's
        // tokens alone.
        for (to, egress) in chain.between.iter().enumerate() {
            if from == to {
                continue; // that is the service's own use
            }
            let next = chain.hops[to + 1].ingress.origin();
            let fields = [
                format!("Authorization: Bearer {}", loot.token.secret()),
                format!("Session-Binding-Receipt: {}", loot.receipt),
            ];
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let answer = ask(egress, "GET", &format!("{next}/things"), &fields).await;
            assert_eq!(answer.status, 403, "{from} -> egress {to}: {}", answer.text);
            refused += 1;
        }
        // At the authorization server, by anybody whom it is not addressed to (T6, AS-2).
        for (other, hop) in chain.hops.iter().enumerate() {
            // To `from` it is addressed, and to the one before it is bound.
            if other == from || other + 1 == from {
                continue;
            }
            let answer = exchange(
                &chain.scene,
                &hop.leaf,
                &format!("service-{}", NAMES[other]),
                &loot.token,
            )
            .await;
            assert!(
                answer.text.contains("AS-2"),
                "{from} by {other}: {}",
                answer.text
            );
            refused += 1;
        }
        let answer = exchange(&chain.scene, &chain.scene.thief, "thief", &loot.token).await;
        assert!(answer.text.contains("AS-2"), "{}", answer.text);
        refused += 1;
    }
    println!("{refused} attempts refused");
    assert_eq!(refused, 3 * 3 * 2 + 4 + 4 + 3);
    // The services behind saw the one call, and no other.
    for hop in &chain.hops {
        assert_eq!(hop.seen.lock().unwrap().len(), 1);
    }
    // And the chain still works.
    assert_eq!(chain.call().await.status, 200);
}

/// A token exchange at the authorization server, by this client.
async fn exchange(scene: &Scene, leaf: &Leaf, client: &str, subject: &AccessToken) -> Answer {
    let config = TlsOptions::alpn(Alpn::Http1).client(&scene.pki, Some(leaf));
    let tcp = TcpStream::connect(scene.authority.mtls_addr())
        .await
        .unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut tls = connector.connect(name, tcp).await.unwrap();
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&client_id={client}\
         &subject_token={}&subject_token_type={kind}&resource=https://c.example",
        subject.secret()
    );
    let request = format!(
        "POST /token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(tls.read_to_end(&mut answer)).await;
    answered(&String::from_utf8_lossy(&answer))
}

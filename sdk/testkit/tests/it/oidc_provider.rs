//! npm's `oidc-provider` as the authorization server: an implementation of RFC 8705, RFC 8707, RFC
//! 7662 and RFC 9449 that is not ours issues the tokens; bowline's token sources, client and
//! verifier use them.
//!
//! Needs Node and npm, so it belongs to the named set (`just parts`) and not to `cargo test`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Extension, Json, Router};
use bowline_http_client::{AccessToken, Body, Builder, Client, DpopKey, Identity, Scheme, Trust};
use bowline_proof::EXPORTER_LABEL;
use bowline_server::{
    BindingLayer, Dpop, ExpectedClaims, IntrospectionEndpoint, IntrospectionValidator, JwksUrl,
    JwtValidator, MemoryReplayStore, ServerEvent, TokenValidator, VerifiedBinding,
};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_testkit::tls::TlsOptions;
use bowline_token::{
    AuthorizationServer, ClientAuthentication, OAuth, RequiredBinding, TokenSource,
};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::client::{self, Http};

/// The resources in `conformance/oidc-provider/server.js`.
const JWT_RESOURCE: &str = "https://jwt.example";
const OPAQUE_RESOURCE: &str = "https://opaque.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_jwt_with_both_members_of_cnf_is_used_with_one_proof_and_not_by_an_attacker() {
    let fixture = Fixture::new();
    let agent = fixture.client(&fixture.agent).build().unwrap();
    let token = issued(
        fixture
            .tokens(&agent, "agent", JWT_RESOURCE)
            .bound(RequiredBinding::Session),
    )
    .await;
    let confirmation = token.confirmation().unwrap();
    assert_eq!(
        confirmation.x5t_s256,
        Some(fixture.agent.thumbprint()),
        "AS-1"
    );
    assert_eq!(
        confirmation.tls_exp.as_deref(),
        Some(EXPORTER_LABEL),
        "TK-1"
    );

    let server = Server::start(&fixture, fixture.jwts());
    let caller = answered(server.call(&agent, &token).await).await;
    assert_eq!(
        (&caller["class"], &caller["claims"]["aud"]),
        (&json!("session"), &json!(JWT_RESOURCE))
    );
    for _ in 0..9 {
        assert_eq!(server.call(&agent, &token).await.status(), StatusCode::OK);
    }
    assert_eq!(agent.stats().totals.signatures(), 1, "for ten requests");

    assert_eq!(
        fixture.stolen(&server, &fixture.attacker, &token).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.refused_by(), Some("RS-3"));
    assert_eq!(
        fixture.stolen(&server, &fixture.agent, &token).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        server.refused_by(),
        Some("RS-4"),
        "the key that signs proofs was not stolen"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn an_opaque_token_is_session_bound_as_introspection_says() {
    let fixture = Fixture::new();
    let agent = fixture.client(&fixture.agent).build().unwrap();
    let token = issued(fixture.tokens(&agent, "agent", OPAQUE_RESOURCE)).await;
    assert!(!token.secret().contains('.'), "no JWT");

    let server = Server::start(&fixture, fixture.introspection());
    // The client cannot read its binding from the token: it learns it from the challenge (CL-5).
    let caller = answered(server.call(&agent, &token).await).await;
    assert_eq!(caller["class"], "session");
    assert_eq!(
        caller["claims"]["cnf"]["x5t#S256"],
        fixture.agent.thumbprint().to_string()
    );
    assert_eq!(agent.stats().totals.signatures(), 1);

    assert_eq!(
        fixture.stolen(&server, &fixture.attacker, &token).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.refused_by(), Some("RS-3"));
    let unknown = AccessToken::new("unknown").unwrap();
    assert_eq!(
        server.call(&agent, &unknown).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.refused_by(), Some("RS-2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_dpop_bound_token_is_used_by_the_binding_that_it_asks_for() {
    let fixture = Fixture::new();
    let key = DpopKey::generate().unwrap();
    // `BindingPolicy::Auto` is the default.
    let agent = fixture
        .client(&fixture.agent)
        .dpop_key(key.clone())
        .build()
        .unwrap();
    // It asks for a nonce first, and the client repeats it.
    let token = issued(
        fixture
            .tokens(&agent, "agent-dpop", JWT_RESOURCE)
            .bound(RequiredBinding::Dpop),
    )
    .await;
    assert_eq!(agent.stats().totals.refused, 1, "one nonce was asked for");
    assert_eq!(token.scheme(), Scheme::Dpop);
    let confirmation = token.confirmation().unwrap();
    assert_eq!(
        (confirmation.jkt, &confirmation.tls_exp),
        (Some(key.thumbprint()), &None)
    );

    let server = Server::start(&fixture, fixture.jwts());
    let caller = answered(server.call(&agent, &token).await).await;
    assert_eq!(
        (&caller["class"], &caller["key"]),
        (&json!("dpop"), &json!(key.thumbprint().to_string()))
    );

    assert_eq!(
        fixture.stolen(&server, &fixture.attacker, &token).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.refused_by(), Some("DP-13"));
    let bearer = AccessToken::new(token.secret()).unwrap();
    assert_eq!(
        fixture.stolen(&server, &fixture.attacker, &bearer).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(server.refused_by(), Some("DP-16"));
}

/// The authorization server, and the certificates of all parties.
struct Fixture {
    pki: Pki,
    provider: OidcProvider,
    agent: Leaf,
    attacker: Leaf,
    resource_server: Leaf,
}

impl Fixture {
    fn new() -> Self {
        let pki = Pki::new();
        let [agent, attacker, resource_server] =
            ["agent", "attacker", "resource-server"].map(|name| pki.client(name, KeyKind::P256));
        Self {
            provider: OidcProvider::start(&pki),
            pki,
            agent,
            attacker,
            resource_server,
        }
    }

    fn client(&self, leaf: &Leaf) -> Builder {
        let identity =
            Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes()).unwrap();
        let trust = Trust::from_der([self.pki.ca_der().clone()]).unwrap();
        Client::builder().identity(identity).trust(trust)
    }

    /// Tokens by `client_credentials` (RFC 6749 §4.4) for a resource (RFC 8707), from the provider
    /// whose metadata is found by its issuer (RFC 8414).
    fn tokens(&self, client: &Client, client_id: &str, resource: &str) -> bowline_token::Builder {
        let server = AuthorizationServer::issuer(&self.provider.issuer);
        OAuth::builder(client.clone(), server, ClientAuthentication::tls(client_id))
            .resource(resource)
            .scope("read")
    }

    /// RS-2 by the provider's key set.
    fn jwts(&self) -> JwtValidator {
        let jwks = JwksUrl::new(&format!("{}/jwks", self.provider.issuer)).unwrap();
        let jwks = jwks.trust_only_pem(self.pki.ca_pem().as_bytes()).unwrap();
        JwtValidator::builder(
            ExpectedClaims::new(JWT_RESOURCE).issuer(&self.provider.issuer),
            jwks,
        )
        .build()
    }

    /// RS-2 by asking the provider.
    fn introspection(&self) -> IntrospectionValidator {
        let url = format!("{}/token/introspection", self.provider.issuer);
        let chain_and_key = [
            self.resource_server.chain_pem(),
            self.resource_server.key_pem(),
        ]
        .concat();
        let endpoint = IntrospectionEndpoint::new(&url)
            .and_then(|endpoint| endpoint.trust_only_pem(self.pki.ca_pem().as_bytes()))
            .and_then(|endpoint| endpoint.mutual_tls("resource-server", chain_and_key.as_bytes()))
            .unwrap();
        IntrospectionValidator::builder(ExpectedClaims::new(OPAQUE_RESOURCE), endpoint).build()
    }

    /// Presents a stolen token without a proof on a new connection with this certificate.
    async fn stolen(&self, server: &Server, certificate: &Leaf, token: &AccessToken) -> StatusCode {
        let tls = TlsOptions::default().client(&self.pki, Some(certificate));
        let mut request = client::get("/");
        request
            .headers_mut()
            .insert(AUTHORIZATION, token.authorization().clone());
        let mut http = Http::connect(&tls, server.peer.addr()).await;
        http.send(request).await.unwrap().status()
    }
}

/// Rotation, and what a second use does, by a server that is not ours (RFC 9700 §4.14.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_refresh_token_is_rotated_and_what_was_used_is_not_accepted_again() {
    let fixture = Fixture::new();
    let agent = fixture.client(&fixture.agent).build().unwrap();
    let dir = &fixture.provider.dir;
    let first = std::fs::read_to_string(dir.join("refresh-token")).unwrap();
    let sign_in = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let seed = dir.join(name);
        let json = json!({
            "client_id": "agent-refresh",
            "issuer": fixture.provider.issuer,
            "refresh_token": first,
        });
        std::fs::write(&seed, json.to_string()).unwrap();
        std::fs::set_permissions(&seed, std::fs::Permissions::from_mode(0o600)).unwrap();
        seed
    };
    let seed = sign_in("seed");
    let source = |seed: &Path| {
        let settings = fixture.tokens(&agent, "agent-refresh", JWT_RESOURCE);
        settings.bound(RequiredBinding::Certificate).refresh(seed)
    };
    let token = issued(source(&seed)).await;
    assert_eq!(
        token.confirmation().unwrap().x5t_s256,
        Some(fixture.agent.thumbprint())
    );
    let stored =
        |seed: &Path| -> Value { serde_json::from_slice(&std::fs::read(seed).unwrap()).unwrap() };
    assert_ne!(stored(&seed)["refresh_token"], first.as_str());
    // What is for something else is another token, so the rotated one is used.
    issued(source(&seed).audience("other")).await;

    // A copy from before the rotation: stolen, or restored from a backup.
    let copy = sign_in("copy");
    let error = source(&copy).build().unwrap().token().await.unwrap_err();
    assert_eq!(
        error.kind(),
        bowline_token::ErrorKind::Refused(bowline_token::OAuthErrorCode::InvalidGrant),
        "{error}"
    );
    assert!(error.to_string().contains("sign in again"), "{error}");
    // And with it went what came of it.
    let error = source(&seed)
        .audience("x")
        .build()
        .unwrap()
        .token()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("sign in again"), "{error}");
}

/// A service behind the verifier, which answers with what the verifier found out about the caller.
struct Server {
    peer: CyclingServer,
    last: Arc<Mutex<Option<ServerEvent>>>,
}

impl Server {
    fn start<V: TokenValidator>(fixture: &Fixture, validator: V) -> Self {
        let last = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&last);
        let describe = async |Extension(binding): Extension<VerifiedBinding>| {
            let key = binding.dpop_key().map(|key| key.to_string());
            Json(json!({ "class": binding.class().name(), "key": key, "claims": binding.claims() }))
        };
        let peer = CyclingServer::start_with(&fixture.pki, CyclingOptions::default(), |origin| {
            let layer = BindingLayer::new(validator)
                .origins([origin.parse().unwrap()])
                .dpop(Dpop::new(MemoryReplayStore::default()))
                .observer(move |event: &ServerEvent| *seen.lock().unwrap() = Some(*event));
            Router::new().route("/", get(describe)).layer(layer)
        });
        Self { peer, last }
    }

    /// The id of the check that refused the last request; `None` if it passed.
    fn refused_by(&self) -> Option<&'static str> {
        match *self.last.lock().unwrap() {
            Some(ServerEvent::Refused { check, .. }) => Some(check.id()),
            Some(ServerEvent::DpopRefused { check, .. }) => Some(check.id()),
            _ => None,
        }
    }

    async fn call(&self, client: &Client, token: &AccessToken) -> Response<Body> {
        let request = Request::get(self.peer.origin()).extension(token.clone());
        let request = request.body(Full::<Bytes>::default()).unwrap();
        client.send(request).await.unwrap()
    }
}

/// The body of a successful response, as JSON.
async fn answered(response: Response<Body>) -> Value {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(
        head.status,
        StatusCode::OK,
        "{:?} {}",
        head.headers,
        String::from_utf8_lossy(&body)
    );
    serde_json::from_slice(&body).unwrap()
}

async fn issued(settings: bowline_token::Builder) -> AccessToken {
    let token = settings.build().unwrap().token().await.unwrap();
    token.access_token().clone()
}

/// `conformance/oidc-provider/server.js`, with certificates of `pki`.
struct OidcProvider {
    child: Child,
    issuer: String,
    dir: PathBuf,
}

impl OidcProvider {
    fn start(pki: &Pki) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("bowline-oidc-{}-{number}", std::process::id()));
        pki.write_to(&dir, &[&pki.localhost()]).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/oidc-provider");
        let mut child = Command::new(node(&program))
            .arg(program.join("server.js"))
            .arg(&dir)
            // Its end of file makes the program end if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: run `just parts`, which installs it");
        let mut issuer = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut issuer).expect("text");
        assert!(
            issuer.starts_with("https://"),
            "the program ended early: are its packages installed? see `just parts`"
        );
        Self {
            child,
            issuer: issuer.trim_end().to_owned(),
            dir,
        }
    }
}

/// The Node that the lock file names, where npm has one for this machine; or else that of the
/// `PATH`.
fn node(program: &Path) -> PathBuf {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let locked = program.join(format!("node_modules/node-linux-{arch}/bin/node"));
    if locked.exists() {
        locked
    } else {
        PathBuf::from("node")
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

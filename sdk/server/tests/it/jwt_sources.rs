//! Key sets from files and URLs that change, fail, or are malformed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bowline_proof::AccessToken;
use bowline_server::{
    ExpectedClaims, Jwks, JwksUrl, JwtValidator, JwtValidatorBuilder, TokenErrorKind,
    TokenValidator,
};
use bowline_testkit::net::ClosedPort;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::authority::{AUDIENCE, Authority, ISSUER, jwks};
use crate::fixture::{Fixture, Folder, TestServer, within};

/// The key set is old as soon as it has been fetched.
const ALWAYS: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(60 * 60);
const NEVER: Duration = Duration::from_secs(1_000_000);

fn builder(jwks: impl Into<Jwks>) -> JwtValidatorBuilder {
    JwtValidator::builder(ExpectedClaims::new(AUDIENCE).issuer(ISSUER), jwks)
        .refresh_interval(NEVER)
        .retry_interval(NEVER)
}

async fn is_valid(validator: &JwtValidator, token: &AccessToken) -> bool {
    within(validator.validate(token)).await.is_ok()
}

async fn error_kind(validator: &JwtValidator, token: &AccessToken) -> TokenErrorKind {
    within(validator.validate(token)).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_file_is_read_again_for_an_unknown_key() {
    let folder = Folder::new("jwks-rotated");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let file = folder.write("jwks.json", jwks(&[&old]));
    let validator = builder(Jwks::file(&file)).retry_interval(ALWAYS).build();
    assert!(is_valid(&validator, &old.bearer()).await);
    assert!(!is_valid(&validator, &new.bearer()).await);
    folder.write("jwks.json", jwks(&[&old, &new]));
    assert!(is_valid(&validator, &new.bearer()).await);
}

#[tokio::test]
async fn a_file_is_read_again_as_it_ages_and_withdrawn_keys_are_dropped_with_their_tokens() {
    let folder = Folder::new("jwks-withdrawn");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let file = folder.write("jwks.json", jwks(&[&old]));
    let validator = builder(Jwks::file(&file)).refresh_interval(ALWAYS).build();
    let token = old.bearer();
    assert!(is_valid(&validator, &token).await);
    folder.write("jwks.json", jwks(&[&new]));
    // The refresh runs in the background: ask until it shows.
    let forgotten = async {
        while is_valid(&validator, &token).await {
            tokio::task::yield_now().await;
        }
    };
    within(forgotten).await;
    assert!(is_valid(&validator, &new.bearer()).await);
}

#[tokio::test]
async fn the_last_good_set_stays_in_use_when_a_refresh_fails() {
    let folder = Folder::new("jwks-broken");
    let authority = Authority::new("k1");
    let file = folder.write("jwks.json", jwks(&[&authority]));
    let validator = builder(Jwks::file(&file))
        .refresh_interval(ALWAYS)
        .retry_interval(ALWAYS)
        .build();
    assert!(is_valid(&validator, &authority.bearer()).await);
    let other = Authority::new("k9");
    for broken in [
        b"".to_vec(),
        b"no JSON".to_vec(),
        padded(jwks(&[&authority, &other])),
    ] {
        folder.write("jwks.json", broken);
        // An unknown key makes the validator wait for the outcome of a fetch. It may be in the set
        // that could not be fetched.
        assert_eq!(
            error_kind(&validator, &other.bearer()).await,
            TokenErrorKind::Unavailable
        );
        assert!(is_valid(&validator, &authority.bearer()).await);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        error_kind(&validator, &other.bearer()).await,
        TokenErrorKind::Unavailable
    );
    assert!(is_valid(&validator, &authority.bearer()).await);
}

/// An attacker who can keep this server from fetching the key set must not keep a withdrawn key in
/// use.
#[tokio::test(start_paused = true)]
async fn a_key_set_that_was_not_fetched_for_a_day_is_used_no_longer() {
    let folder = Folder::new("jwks-stale");
    let authority = Authority::new("k1");
    let file = folder.write("jwks.json", jwks(&[&authority]));
    let validator = builder(Jwks::file(&file))
        .refresh_interval(HOUR)
        .retry_interval(ALWAYS)
        .build();
    let token = authority.bearer();
    let validate = || validator.validate(&token);
    validate().await.unwrap();
    // An unchanged set that is read again is not stale.
    for _ in 0..30 {
        tokio::time::advance(HOUR).await;
        validate().await.unwrap();
        // The refresh runs in the background; an unknown key waits for it.
        let _ = validator.validate(&Authority::new("k9").bearer()).await;
    }
    std::fs::remove_file(&file).unwrap();
    for _ in 0..23 {
        tokio::time::advance(HOUR).await;
        validate().await.unwrap();
    }
    tokio::time::advance(HOUR).await;
    let error = validate().await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    folder.write("jwks.json", jwks(&[&authority]));
    validate().await.unwrap();
}

/// Within the retry interval nobody can say that the key does not exist: it may be new.
#[tokio::test(start_paused = true)]
async fn while_the_set_may_not_be_fetched_again_a_token_with_an_unknown_key_is_not_called_invalid()
{
    let folder = Folder::new("jwks-rotation");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let file = folder.write("jwks.json", jwks(&[&old]));
    let validator = builder(Jwks::file(&file))
        .retry_interval(Duration::from_secs(10))
        .build();
    validator.validate(&old.bearer()).await.unwrap();
    // An attacker's made-up key, at the moment of a rotation.
    tokio::time::advance(Duration::from_secs(10)).await;
    let made_up = Authority::new("k9").bearer();
    let error = validator.validate(&made_up).await.unwrap_err();
    assert_eq!(
        error.kind(),
        TokenErrorKind::Invalid,
        "the set was just fetched"
    );
    folder.write("jwks.json", jwks(&[&old, &new]));
    tokio::time::advance(Duration::from_secs(3)).await;
    let error = validator.validate(&new.bearer()).await.unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Duration::from_secs(7));
    tokio::time::advance(error.retry_after()).await;
    validator.validate(&new.bearer()).await.unwrap();
}

/// A made-up token without `kid` fits many keys, and costs no more than eight signatures.
#[tokio::test]
async fn b4_a_token_without_kid_is_tried_with_eight_keys_at_most() {
    let keys: Vec<_> = (0..9).map(|_| Authority::new("k")).collect();
    let document = jwks(&keys.iter().collect::<Vec<_>>());
    let validator = builder(Jwks::document(document).unwrap()).build();
    for (index, key) in keys.iter().enumerate() {
        let mut header = key.header();
        header.as_object_mut().unwrap().remove("kid");
        let token = key.sign(&header, &Authority::claims());
        assert_eq!(is_valid(&validator, &token).await, index < 8, "{index}");
        // With `kid` every key of that name is tried.
        assert!(is_valid(&validator, &key.bearer()).await, "{index}");
    }
}

/// The cheapest way to make a server wait was a token without `kid` and a slow key server.
#[tokio::test]
async fn b4_a_token_without_kid_does_not_wait_for_a_fetch_that_is_under_way() {
    let authority = Authority::new("k1");
    let key_server = KeyServer::start(jwks(&[&authority])).await;
    let validator = Arc::new(
        builder(key_server.url("/gated"))
            .retry_interval(ALWAYS)
            .build(),
    );
    key_server.gate.add_permits(1);
    assert!(is_valid(&validator, &authority.bearer()).await);
    within(key_server.arrived.acquire()).await.unwrap().forget();
    // A fetch that does not end.
    let (asking, unknown) = (validator.clone(), Authority::new("k9").bearer());
    let fetch = tokio::spawn(async move { error_kind(&asking, &unknown).await });
    within(key_server.arrived.acquire()).await.unwrap().forget();
    let stranger = Authority::new("k9");
    let mut header = stranger.header();
    header.as_object_mut().unwrap().remove("kid");
    let token = stranger.sign(&header, &Authority::claims());
    assert_eq!(
        error_kind(&validator, &token).await,
        TokenErrorKind::Unavailable
    );
    assert!(is_valid(&validator, &authority.bearer()).await);
    key_server.gate.add_permits(1);
    assert_eq!(within(fetch).await.unwrap(), TokenErrorKind::Invalid);
}

#[tokio::test]
async fn before_there_is_a_key_set_tokens_are_neither_valid_nor_invalid() {
    let folder = Folder::new("jwks-late");
    let authority = Authority::new("k1");
    let validator = builder(Jwks::file(folder.path("jwks.json")))
        .retry_interval(ALWAYS)
        .build();
    let error = within(validator.validate(&authority.bearer()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::Unavailable);
    folder.write("jwks.json", jwks(&[&authority]));
    assert!(is_valid(&validator, &authority.bearer()).await);
}

#[tokio::test]
async fn a_url_is_fetched_once_for_concurrent_requests_and_not_again_for_every_unknown_key() {
    let authority = Authority::new("k1");
    let key_server = KeyServer::start(jwks(&[&authority])).await;
    let validator = Arc::new(builder(key_server.url("/jwks")).build());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (validator, token) = (validator.clone(), authority.bearer());
            tokio::spawn(async move { is_valid(&validator, &token).await })
        })
        .collect();
    for task in tasks {
        assert!(within(task).await.unwrap());
    }
    for _ in 0..50 {
        assert!(!is_valid(&validator, &Authority::new("k9").bearer()).await);
    }
    assert_eq!(key_server.fetches(), 1, "the retry interval has not passed");
}

#[tokio::test]
async fn an_unknown_key_causes_one_fetch_for_any_number_of_concurrent_tokens() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let key_server = KeyServer::start(jwks(&[&old])).await;
    let validator = Arc::new(
        builder(key_server.url("/jwks"))
            .retry_interval(ALWAYS)
            .build(),
    );
    assert!(is_valid(&validator, &old.bearer()).await);
    key_server.set(jwks(&[&old, &new]));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (validator, token) = (validator.clone(), new.bearer());
            tokio::spawn(async move { is_valid(&validator, &token).await })
        })
        .collect();
    for task in tasks {
        assert!(within(task).await.unwrap());
    }
    assert_eq!(key_server.fetches(), 2);
}

#[tokio::test]
async fn an_unknown_key_causes_another_fetch_after_the_retry_interval() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let key_server = KeyServer::start(jwks(&[&old])).await;
    let validator = builder(key_server.url("/jwks"))
        .retry_interval(ALWAYS)
        .build();
    assert!(!is_valid(&validator, &new.bearer()).await);
    key_server.set(jwks(&[&new]));
    assert!(is_valid(&validator, &new.bearer()).await);
}

#[tokio::test]
async fn a_response_that_is_not_a_key_set_makes_tokens_unavailable_and_not_invalid() {
    let authority = Authority::new("k1");
    let key_server = KeyServer::start(jwks(&[&authority])).await;
    for path in ["/error", "/redirect", "/long", "/nonsense", "/absent"] {
        let validator = builder(key_server.url(path)).build();
        assert_eq!(
            error_kind(&validator, &authority.bearer()).await,
            TokenErrorKind::Unavailable,
            "{path}"
        );
    }
    let closed = ClosedPort::new();
    let url = format!("http://{}/jwks", closed.addr());
    let validator = builder(JwksUrl::new(&url).unwrap()).build();
    assert_eq!(
        error_kind(&validator, &authority.bearer()).await,
        TokenErrorKind::Unavailable
    );
}

#[tokio::test]
async fn keys_are_fetched_over_mutual_tls_from_a_server_with_a_private_root() {
    let fixture = Fixture::new();
    let document = jwks(&[&fixture.authority]);
    let router = Router::new().route("/jwks", get(move || async move { document }));
    let server = TestServer::start(
        fixture.listener(fixture.tls()).await,
        router,
        fixture.options(),
    );
    let url = || JwksUrl::new(&format!("https://localhost:{}/jwks", server.addr.port())).unwrap();
    let identity = format!(
        "{}{}",
        fixture.agent.certificate_pem,
        fixture.agent.key.serialize_pem()
    );

    let known = url()
        .trust_only_pem(fixture.ca.pem().as_bytes())
        .unwrap()
        .identity_pem(identity.as_bytes())
        .unwrap();
    assert!(is_valid(&builder(known).build(), &fixture.authority.bearer()).await);

    let stranger = url().trust_only_pem(fixture.ca.pem().as_bytes()).unwrap();
    assert_eq!(
        error_kind(&builder(stranger).build(), &fixture.authority.bearer()).await,
        TokenErrorKind::Unavailable
    );
    let trusting_others = url().identity_pem(identity.as_bytes()).unwrap();
    assert_eq!(
        error_kind(
            &builder(trusting_others).build(),
            &fixture.authority.bearer()
        )
        .await,
        TokenErrorKind::Unavailable
    );
}

#[test]
fn a_url_over_which_keys_could_be_replaced_is_refused() {
    for url in [
        "http://authority.example.com/jwks",
        "http://127.0.0.1.example.com/",
        "ftp://localhost/",
        "https://user:secret@localhost/",
        "jwks.json",
        "",
    ] {
        assert!(JwksUrl::new(url).is_err(), "{url}");
    }
    for url in [
        "https://authority.example.com/jwks",
        "http://127.0.0.1:8080/jwks",
        "http://[::1]/jwks",
        "http://localhost/",
    ] {
        JwksUrl::new(url).unwrap();
    }
    let url = || JwksUrl::new("https://localhost/").unwrap();
    assert!(url().trust_only_pem(b"").is_err());
    assert!(url().identity_pem(b"nonsense").is_err());
}

/// A valid document that is too long.
fn padded(mut document: Vec<u8>) -> Vec<u8> {
    document.resize(1024 * 1024 + 1, b' ');
    document
}

/// A key server on plain HTTP that counts its requests.
struct KeyServer {
    addr: std::net::SocketAddr,
    document: Arc<Mutex<Vec<u8>>>,
    fetches: Arc<AtomicUsize>,
    /// A permit for each request to `/gated`.
    arrived: Arc<Semaphore>,
    /// A request to `/gated` takes one of these before it is answered.
    gate: Arc<Semaphore>,
}

impl KeyServer {
    async fn start(document: Vec<u8>) -> Self {
        let too_long_document = padded(document.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (document, fetches) = (
            Arc::new(Mutex::new(document)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (served, count) = (document.clone(), fetches.clone());
        let answer = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let document = served.lock().unwrap().clone();
            async move { document }
        };
        let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait, served) = (arrived.clone(), gate.clone(), document.clone());
        let gated = move || {
            tell.add_permits(1);
            let (wait, document) = (wait.clone(), served.lock().unwrap().clone());
            async move {
                wait.acquire().await.unwrap().forget();
                document
            }
        };
        let redirect = || async { axum::response::Redirect::temporary("/jwks") };
        // Chunked, so that its length is only seen while it is read.
        let long = move || {
            let chunks: Vec<_> = too_long_document
                .chunks(64 * 1024)
                .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
                .collect();
            async {
                Response::new(axum::body::Body::from_stream(futures_util::stream::iter(
                    chunks,
                )))
            }
        };
        let router = Router::new()
            .route("/jwks", get(answer))
            .route("/gated", get(gated))
            .route("/redirect", get(redirect))
            .route("/long", get(long))
            .route("/nonsense", get(|| async { "nonsense" }))
            .route(
                "/error",
                get(|| async { StatusCode::INTERNAL_SERVER_ERROR.into_response() }),
            );
        tokio::spawn(axum::serve(listener, router).into_future());
        Self {
            addr,
            document,
            fetches,
            arrived,
            gate,
        }
    }

    fn url(&self, path: &str) -> JwksUrl {
        JwksUrl::new(&format!("http://{}{path}", self.addr)).unwrap()
    }

    fn set(&self, document: Vec<u8>) {
        *self.document.lock().unwrap() = document;
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

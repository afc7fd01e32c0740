//! A key that takes its time (an HSM, a hand that must touch it) holds up nothing but what waits
//! for its signature.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_client::{Client, ErrorKind, Identity, Step, Timeouts};
use bowline_testkit::peers::CyclingOptions;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use support::gate::{Door, Gate, soon};
use support::{Lab, fetch, ok};

fn gated(lab: &Lab) -> (Arc<Door>, Identity) {
    let door = Arc::new(Door::default());
    let key = Gate::new(lab.agent.signing_key(), door.clone());
    (
        door,
        Identity::new(lab.agent.chain(), Arc::new(key)).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn known_proofs_are_used_while_the_key_signs_another() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions::default());
    let (door, identity) = gated(&lab);
    let client = lab.builder().identity(identity).build().unwrap();
    let (known, new, url) = (lab.token("known"), lab.token("new"), server.origin());
    ok(&client, &url, &known).await;

    door.close(true);
    let waiting = spawn(&client, &url, &new);
    for _ in 0..50 {
        soon(ok(&client, &url, &known)).await;
    }
    assert!(!waiting.is_finished());
    door.close(false);
    soon(waiting).await.unwrap();
    assert_eq!(client.stats().totals.signatures(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn known_connections_are_used_while_the_key_signs_a_handshake() {
    let lab = Lab::new();
    let (server, other) = (
        lab.server(CyclingOptions::default()),
        lab.server(CyclingOptions::default()),
    );
    let (door, identity) = gated(&lab);
    let client = lab.builder().identity(identity).build().unwrap();
    let (token, url) = (lab.token("a"), server.origin());
    ok(&client, &url, &token).await;

    door.close(true);
    let waiting = spawn(&client, &other.origin(), &token);
    for _ in 0..50 {
        soon(ok(&client, &url, &token)).await;
    }
    assert!(!waiting.is_finished());
    door.close(false);
    soon(waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_that_does_not_sign_in_time_is_an_error_that_says_so_and_not_the_end() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions::default());
    let (door, identity) = gated(&lab);
    let timeouts = Timeouts {
        sign: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let client = lab
        .builder()
        .identity(identity)
        .timeouts(timeouts)
        .build()
        .unwrap();
    let url = server.origin();
    ok(&client, &url, &lab.token("a")).await;
    door.close(true);
    let error = fetch(&client, &url, &lab.token("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Sign), "{error}");
    assert!(!error.may_have_been_processed());
    door.close(false);
    // The signature that came too late is not lost.
    while client.stats().totals.signatures() < 2 {
        tokio::task::yield_now().await;
    }
    ok(&client, &url, &lab.token("b")).await;
    assert_eq!(client.stats().totals.signatures(), 2);
}

fn spawn(
    client: &Client,
    url: &str,
    token: &bowline_client::AccessToken,
) -> tokio::task::JoinHandle<()> {
    let (client, url, token) = (client.clone(), url.to_owned(), token.clone());
    tokio::spawn(async move { ok(&client, &url, &token).await })
}

/// Panics when it is asked to sign a proof, once.
#[derive(Debug)]
struct Fragile {
    key: Arc<dyn SigningKey>,
    breaks: Arc<Mutex<bool>>,
}

impl SigningKey for Fragile {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        assert!(
            !std::mem::take(&mut *self.breaks.lock().unwrap_or_else(|e| e.into_inner())),
            "as the test wants it"
        );
        self.key.choose_scheme(offered)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[tokio::test]
async fn a_key_that_panics_fails_its_requests_and_not_the_later_ones() {
    let lab = Lab::new();
    let server = lab.server(CyclingOptions::default());
    let breaks = Arc::new(Mutex::new(false));
    let key = Fragile {
        key: lab.agent.signing_key(),
        breaks: breaks.clone(),
    };
    let identity = Identity::new(lab.agent.chain(), Arc::new(key)).unwrap();
    let client = lab.builder().identity(identity).build().unwrap();
    let url = server.origin();
    ok(&client, &url, &lab.token("a")).await;
    *breaks.lock().unwrap() = true;
    let error = fetch(&client, &url, &lab.token("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signing, "{error}");
    ok(&client, &url, &lab.token("b")).await;
    // And the same in a handshake.
    let other = lab.server(CyclingOptions::default());
    *breaks.lock().unwrap() = true;
    let error = fetch(&client, &other.origin(), &lab.token("a"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
    ok(&client, &other.origin(), &lab.token("a")).await;
}

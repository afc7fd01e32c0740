mod live;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use bowline_proof::dpop::{DpopKey, Verified};

use super::*;

/// A proof of a key that all tests of this process share: each takes other numbers.
fn proof(jti: &str) -> ProofId {
    use std::sync::LazyLock;
    static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::generate().unwrap());
    ProofId::from_dpop(&Verified {
        key: KEY.thumbprint(),
        issued_at: at(0),
        jti: jti.to_owned(),
        nonce: None,
    })
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn secrets(bytes: &[u8]) -> NodeSecrets {
    NodeSecrets::new(bytes.iter().map(|byte| [*byte; 32])).unwrap()
}

/// A place where no Redis is.
fn nowhere() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("bowline-no-redis-{}-{number}", std::process::id()))
}

fn server(path: &std::path::Path) -> RedisServer {
    RedisServer::new(&format!("unix:{}", path.display())).unwrap()
}

async fn unconnected(bytes: &[u8]) -> RedisReplayStore {
    let store = RedisReplayStore::builder(server(&nowhere()), secrets(bytes));
    store.start().await.unwrap()
}

#[tokio::test]
async fn redis_sees_names_that_nobody_can_make_without_the_secret() {
    let (id, owner) = (proof("1"), ProofOwner::named("agent"));
    let [one, same, other] = [&[1][..], &[1], &[2]].map(secrets);
    let store = unconnected(&[1]).await;
    let names = |secrets: &NodeSecrets| {
        let store = store.with_secrets(secrets);
        (store.proof_names(&id), store.owner_name(&owner))
    };
    assert_eq!(names(&one), names(&same));
    assert_ne!(names(&one).0, names(&other).0);
    assert_ne!(names(&one).1, names(&other).1);
    // Another proof, another owner, and an owner with the hash of a proof.
    assert_ne!(store.proof_names(&proof("2")), store.proof_names(&id));
    assert_ne!(
        store.owner_name(&ProofOwner::named("other")),
        store.owner_name(&owner)
    );
    let (proof, owner) = (&names(&one).0[0], &names(&one).1);
    assert_eq!(proof.len(), "bowline:jti:".len() + 22, "128 bits");
    assert!(proof.starts_with("bowline:jti:") && owner.starts_with("bowline:owner:"));
    let hash = [7; 32];
    assert_ne!(
        name("", &one.keys()[0], PROOF, &hash),
        name("", &one.keys()[0], OWNER, &hash)
    );
}

/// As [`NodeSecrets`] has it: at each step a node finds what its neighbour has stored.
#[tokio::test]
async fn while_a_secret_is_replaced_neighbours_have_a_name_in_common() {
    let store = unconnected(&[1]).await;
    let names = |bytes: &[u8]| store.with_secrets(&secrets(bytes)).proof_names(&proof("1"));
    let steps = [&[1][..], &[1, 2], &[2, 1], &[2]].map(names);
    for pair in steps.windows(2) {
        assert!(pair[0].iter().any(|name| pair[1].contains(name)));
    }
    assert!(!steps[0].iter().any(|name| steps[3].contains(name)));
}

#[tokio::test]
async fn an_entry_is_kept_for_window_and_skew_whatever_its_proof_says() {
    let store = unconnected(&[1]).await;
    for (until, now) in [(1000, 1000), (1060, 1000), (1360, 1000), (900, 1000)] {
        assert_eq!(store.time_to_live(at(until), at(now)), 420, "{until}");
    }
    // A layer with larger windows than the store was told.
    assert_eq!(store.time_to_live(at(2000), at(1000)), 1060);
    let mut windows = Windows::default();
    (windows.past, windows.future) = (Duration::from_secs(10), Duration::from_secs(5));
    let store = RedisReplayStore::builder(server(&nowhere()), secrets(&[1]))
        .windows(windows)
        .max_skew(Duration::from_secs(20));
    let store = store.start().await.unwrap();
    assert_eq!(store.time_to_live(at(1000), at(1000)), 35);
}

#[tokio::test]
async fn without_redis_the_store_starts_and_lets_nothing_pass() {
    let store = unconnected(&[1]).await;
    assert!(!store.is_reachable());
    let proof = UsedProof {
        id: proof("1"),
        owner: ProofOwner::named("agent"),
        until: at(1300),
    };
    assert_eq!(store.insert(proof, at(1000)).await, Insertion::Unavailable);
}

#[tokio::test]
async fn nothing_shows_the_password_or_a_secret() {
    let server = server(&nowhere()).password("sesame");
    let store = RedisReplayStore::builder(server, secrets(&[1]));
    let built = format!("{store:?}");
    let started = format!("{:?}", store.start().await.unwrap());
    for text in [built, started] {
        assert!(!text.contains("sesame"), "{text}");
        assert!(!text.contains("1, 1"), "{text}");
    }
}

/// Answers everything with this text.
fn impostor(answer: &'static str) -> PathBuf {
    let path = nowhere();
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while stream.read(&mut bytes).is_ok_and(|count| count > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    path
}

#[tokio::test]
async fn what_answers_as_redis_is_not_quoted_and_ends_nothing() {
    for answer in [
        "-ERR your password is sesame\r\n",
        "-sesame sesame\r\n",
        "-WRONGPASS sesame\r\n",
        "$6\r\nsesame\r\n",
        "*1\r\n$6\r\nsesame\r\n",
        "HTTP/1.1 400 sesame\r\n\r\n",
        "*999999999\r\n",
        "$999999999999\r\n",
        "\0\0\0\0\r\n",
    ] {
        let path = impostor(answer);
        let store = RedisReplayStore::builder(server(&path).password("sesame"), secrets(&[1]))
            .connect_timeout(Duration::from_millis(300));
        match store.start().await {
            Ok(store) => assert!(!store.is_reachable(), "{answer:?}"),
            Err(error) => {
                assert_eq!(error.kind(), RedisErrorKind::Refused, "{answer:?}");
                let mut source: Option<&dyn std::error::Error> = Some(&error);
                while let Some(shown) = source {
                    assert!(!shown.to_string().contains("sesame"), "{shown}");
                    assert!(!format!("{shown:?}").contains("sesame"), "{shown:?}");
                    source = shown.source();
                }
            }
        }
        let _ = std::fs::remove_file(path);
    }
}

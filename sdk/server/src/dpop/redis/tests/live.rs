//! With a real Redis: `cargo test -p bowline-server --features redis redis -- --ignored`.

use std::net::SocketAddr;

use bowline_testkit::net::{free_address, free_port};
use bowline_testkit::peers::Redis;
use bowline_testkit::pki::{KeyKind, Pki};

use super::*;
use crate::{Identity, Trust};

/// No test may depend on how long something takes; this only ends tests that hang.
const HANG: Duration = Duration::from_secs(30);

const NOW: u64 = 1_800_000_000;

/// Until the store can be used, or not.
async fn reachable(store: &RedisReplayStore, wanted: bool) {
    let there = async {
        while store.is_reachable() != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, there).await.expect("it stays as it is");
}

/// One that listens there too.
fn redis_at(at: SocketAddr) -> Redis {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    Redis::start(&["--bind", &ip, "--port", &port])
}

fn builder(redis: &Redis) -> RedisReplayStoreBuilder {
    RedisReplayStore::builder(server(&redis.socket()), secrets(&[1]))
        .connect_timeout(Duration::from_secs(10))
        .command_timeout(Duration::from_secs(10))
}

async fn store(redis: &Redis) -> RedisReplayStore {
    let store = builder(redis).start().await.unwrap();
    assert!(store.is_reachable());
    store
}

async fn insert(store: &RedisReplayStore, jti: &str) -> Insertion {
    insert_of(store, jti, "agent").await
}

async fn insert_of(store: &RedisReplayStore, jti: &str, owner: &str) -> Insertion {
    let proof = UsedProof {
        id: proof(jti),
        owner: ProofOwner::named(owner),
        until: at(NOW + 300),
    };
    timeout(HANG, store.insert(proof, at(NOW)))
        .await
        .expect("an answer")
}

fn refused(start: Result<RedisReplayStore, RedisError>) -> String {
    let error = start.unwrap_err();
    assert_eq!(error.kind(), RedisErrorKind::Refused, "{error}");
    error.to_string()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_proof_is_fresh_once_on_all_nodes_that_share_a_secret() {
    let redis = Redis::start(&[]);
    let (one, two) = (store(&redis).await, store(&redis).await);
    assert_eq!(insert(&one, "1").await, Insertion::Fresh);
    assert_eq!(insert(&one, "1").await, Insertion::Seen);
    assert_eq!(insert(&two, "1").await, Insertion::Seen);
    // Whatever owner it is counted for: a token without one is counted for who sends it.
    assert_eq!(insert_of(&two, "1", "thief").await, Insertion::Seen);
    assert_eq!(insert(&two, "2").await, Insertion::Fresh);
    // Why the secret must be shared.
    let other = one.with_secrets(&secrets(&[2]));
    assert_eq!(insert(&other, "1").await, Insertion::Fresh);

    for name in one.proof_names(&proof("1")) {
        let left: u64 = redis.command(&["TTL", &name])[1..].parse().unwrap();
        assert!((400..=420).contains(&left), "{left}");
    }
    let keys = redis.command(&["KEYS", "*"]);
    let kept = keys.lines().filter(|key| !key.contains(":trial:"));
    // Proofs, owners under each secret, and the count of all.
    assert_eq!(kept.count(), 3 + 2 + 1, "{keys}");
    assert!(
        keys.lines().all(|key| key.starts_with("bowline:")),
        "{keys}"
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_secret_is_replaced_and_no_node_forgets_what_another_has_seen() {
    let redis = Redis::start(&[]);
    let store = store(&redis).await;
    let steps = [&[1][..], &[1, 2], &[2, 1], &[2]].map(|bytes| store.with_secrets(&secrets(bytes)));
    for (number, pair) in steps.windows(2).enumerate() {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let jti = format!("{number} {}", std::ptr::eq(from, &pair[0]));
            assert_eq!(insert(from, &jti).await, Insertion::Fresh, "{jti}");
            assert_eq!(insert(to, &jti).await, Insertion::Seen, "{jti}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server"]
async fn of_many_insertions_of_one_proof_at_once_exactly_one_is_fresh() {
    let redis = Redis::start(&[]);
    let (one, two) = (store(&redis).await, store(&redis).await);
    for round in 0..50 {
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let store = [&one, &two][task % 2].clone();
                tokio::spawn(async move { insert(&store, &round.to_string()).await })
            })
            .collect();
        let mut fresh = 0;
        for task in tasks {
            match task.await.unwrap() {
                Insertion::Fresh => fresh += 1,
                other => assert_eq!(other, Insertion::Seen),
            }
        }
        assert_eq!(fresh, 1);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_owner_that_holds_its_share_is_refused_before_the_others() {
    let redis = Redis::start(&[]);
    let store = builder(&redis).capacity(100).start().await.unwrap();
    for jti in 0..80 {
        assert_eq!(insert(&store, &jti.to_string()).await, Insertion::Fresh);
    }
    assert_eq!(insert(&store, "80").await, Insertion::Full);
    // What is stored is found all the same.
    assert_eq!(insert(&store, "7").await, Insertion::Seen);
    for owner in 80..100 {
        let jti = owner.to_string();
        assert_eq!(insert_of(&store, &jti, &jti).await, Insertion::Fresh);
        let second = insert_of(&store, &format!("{jti} again"), &jti).await;
        assert_eq!(second, Insertion::Full, "1 % is one");
    }
    assert_eq!(insert_of(&store, "100", "another").await, Insertion::Full);
}

/// Entries and their counts go by Redis's clock.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_has_expired_makes_room() {
    let redis = Redis::start(&[]);
    let mut windows = Windows::default();
    (windows.past, windows.future) = (Duration::ZERO, Duration::ZERO);
    let store = builder(&redis)
        .capacity(2)
        .windows(windows)
        .max_skew(Duration::from_secs(1));
    let store = store.start().await.unwrap();
    let insert = async |jti: &str| {
        let proof = UsedProof {
            id: proof(jti),
            owner: ProofOwner::named(jti),
            until: at(NOW),
        };
        store.insert(proof, at(NOW)).await
    };
    assert_eq!(insert("1").await, Insertion::Fresh);
    assert_eq!(insert("2").await, Insertion::Fresh);
    assert_eq!(insert("3").await, Insertion::Full);
    let room = async {
        while insert("3").await != Insertion::Fresh {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, room).await.expect("entries expire");
    let gone = async {
        while redis.command(&["DBSIZE"]) != ":0" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, gone).await.expect("counts expire too");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_password_is_needed_where_redis_has_one_and_must_be_right() {
    let redis = Redis::start(&["--requirepass", "sesame"]);
    let with = |server: RedisServer| RedisReplayStore::builder(server, secrets(&[1])).start();
    let at = server(&redis.socket());
    assert!(refused(with(at.clone()).await).contains("NOAUTH"));
    let wrong = refused(with(at.clone().password("simsim")).await);
    assert!(
        wrong.contains("WRONGPASS") && !wrong.contains("simsim"),
        "{wrong}"
    );
    let store = with(at.password("sesame")).await.unwrap();
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);

    let open = Redis::start(&[]);
    let none = with(server(&open.socket()).password("sesame")).await;
    assert!(refused(none).contains("has no password set"));
}

/// The list that the error names is all that is needed, and each command of it is.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_user_with_only_the_rights_that_the_error_names_suffices() {
    let at = free_address();
    let redis = redis_at(at);
    let url = format!("redis://node:sesame@{at}");
    let start = async || {
        let server = RedisServer::new(&url).unwrap();
        RedisReplayStore::builder(server, secrets(&[1]))
            .start()
            .await
    };
    let set = |rights: &[&str]| {
        let user = [
            &["ACL", "SETUSER", "node", "reset", "on", ">sesame"],
            rights,
        ]
        .concat();
        assert_eq!(redis.command(&user), "+OK");
        redis.command(&["SCRIPT", "FLUSH"]);
    };
    set(&[]);
    let error = refused(start().await);
    let named = error.split('`').nth(1).unwrap();
    let rights: Vec<&str> = named.split(' ').collect();
    set(&rights);
    let store = start().await.unwrap();
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);
    for (at, right) in rights.iter().enumerate() {
        // Called only when something has expired.
        if *right == "+hdel" {
            continue;
        }
        let mut fewer = rights.clone();
        fewer.remove(at);
        set(&fewer);
        assert!(start().await.is_err(), "{right} is not needed");
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_redis_that_drops_entries_is_refused_at_the_start_and_when_it_is_connected_to_again() {
    let redis = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = refused(builder(&redis).start().await);
    assert!(
        error.contains("allkeys-lru") && error.contains("noeviction"),
        "{error}"
    );
    let set = |policy| redis.command(&["CONFIG", "SET", "maxmemory-policy", policy]);
    set("noeviction");
    let store = store(&redis).await;
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);

    set("volatile-ttl");
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    reachable(&store, false).await;
    assert_eq!(insert(&store, "2").await, Insertion::Unavailable);
    set("noeviction");
    reachable(&store, true).await;
    assert_eq!(insert(&store, "1").await, Insertion::Seen);
    assert_eq!(insert(&store, "2").await, Insertion::Fresh);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn without_memory_nothing_is_stored_and_nothing_passes() {
    let redis = Redis::start(&["--maxmemory", "64mb", "--maxmemory-policy", "noeviction"]);
    let store = store(&redis).await;
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(insert(&store, "2").await, Insertion::Full);
    assert!(store.is_reachable(), "it is full, not away");
    // Also for a node that starts now.
    let late = builder(&redis).start().await.unwrap();
    assert_eq!(insert(&late, "2").await, Insertion::Full);
    assert_eq!(insert(&late, "1").await, Insertion::Seen);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(insert(&store, "2").await, Insertion::Fresh);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_redis_that_does_not_answer_is_not_waited_for() {
    let redis = Redis::start(&[]);
    let store = RedisReplayStore::builder(server(&redis.socket()), secrets(&[1]))
        .connect_timeout(Duration::from_millis(200))
        .command_timeout(Duration::from_millis(200));
    let store = store.start().await.unwrap();
    redis.freeze();
    assert_eq!(insert(&store, "1").await, Insertion::Unavailable);
    reachable(&store, false).await;
    assert_eq!(insert(&store, "2").await, Insertion::Unavailable);
    redis.thaw();
    reachable(&store, true).await;
    assert_eq!(insert(&store, "2").await, Insertion::Fresh);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn after_a_restart_it_goes_on_and_knows_what_redis_has_kept() {
    for (options, known) in [
        (
            &["--appendonly", "yes", "--appendfsync", "always"][..],
            true,
        ),
        // Why persistence is needed: all of it can be replayed.
        (&[], false),
    ] {
        let mut redis = Redis::start(options);
        let store = store(&redis).await;
        assert_eq!(insert(&store, "1").await, Insertion::Fresh);
        redis.kill();
        reachable(&store, false).await;
        assert_eq!(insert(&store, "2").await, Insertion::Unavailable);
        redis.start_again();
        reachable(&store, true).await;
        let again = if known {
            Insertion::Seen
        } else {
            Insertion::Fresh
        };
        assert_eq!(insert(&store, "1").await, again);
        assert_eq!(insert(&store, "2").await, Insertion::Fresh);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_redis_that_comes_later_is_found_without_a_restart() {
    let mut redis = Redis::start(&[]);
    redis.stop();
    let store = builder(&redis).start().await.unwrap();
    assert_eq!(insert(&store, "1").await, Insertion::Unavailable);
    redis.start_again();
    reachable(&store, true).await;
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);
}

/// What the new primary had not received can be replayed; what it had cannot.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn after_a_failover_only_what_was_not_replicated_is_forgotten() {
    let at = free_address();
    let mut primary = redis_at(at);
    let replica = Redis::start(&["--replicaof", &at.ip().to_string(), &at.port().to_string()]);
    let linked = async {
        while !replica
            .command(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, linked).await.expect("replication");
    // The address of the service, which leads to one or the other.
    let address = nowhere();
    std::os::unix::fs::symlink(primary.socket(), &address).unwrap();
    let store = RedisReplayStore::builder(server(&address), secrets(&[1]));
    let store = store.start().await.unwrap();
    assert_eq!(insert(&store, "replicated").await, Insertion::Fresh);
    let arrived = primary.commands(&[&["SET", "mark", "1"], &["WAIT", "1", "10000"]]);
    assert_eq!(arrived[1], ":1");

    // The replica falls behind, and then the primary is gone.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(insert(&store, "lost").await, Insertion::Fresh);
    primary.kill();
    reachable(&store, false).await;
    std::fs::remove_file(&address).unwrap();
    std::os::unix::fs::symlink(replica.socket(), &address).unwrap();
    reachable(&store, true).await;
    assert_eq!(insert(&store, "replicated").await, Insertion::Seen);
    assert_eq!(insert(&store, "lost").await, Insertion::Fresh);
    assert_eq!(insert(&store, "lost").await, Insertion::Seen);
    std::fs::remove_file(&address).unwrap();
}

/// A primary that has become a replica while its connections stayed.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_replica_is_not_used() {
    let redis = redis_at(free_address());
    let store = store(&redis).await;
    let at = free_address();
    let _other = redis_at(at);
    redis.command(&["REPLICAOF", &at.ip().to_string(), &at.port().to_string()]);
    assert_eq!(insert(&store, "1").await, Insertion::Unavailable);
    reachable(&store, false).await;
    redis.command(&["REPLICAOF", "NO", "ONE"]);
    reachable(&store, true).await;
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn over_tls_both_ends_show_certificates() {
    let pki = Pki::new();
    let folder = nowhere();
    pki.write_to(&folder, &[]).unwrap();
    let files = pki.server(&["localhost"]).write_to(&folder).unwrap();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (port, ca) = (free_port().to_string(), text(&folder.join("ca.pem")));
    let _redis = Redis::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &text(&files.certificate),
        "--tls-key-file",
        &text(&files.key),
        "--tls-ca-cert-file",
        &ca,
    ]);
    let at = RedisServer::new(&format!("rediss://localhost:{port}")).unwrap();
    let start = |server: RedisServer| RedisReplayStore::builder(server, secrets(&[1])).start();

    let trust = || Trust::from_pem_file(&ca).unwrap();
    let node = pki.client("node", KeyKind::P256);
    let node = node.write_to(&folder).unwrap();
    let identity = || Identity::from_pem_files(&node.certificate, &node.key).unwrap();
    let known = at.clone().trust_only(trust()).unwrap();
    let store = start(known.clone().identity(identity()).unwrap())
        .await
        .unwrap();
    assert_eq!(insert(&store, "1").await, Insertion::Fresh);

    // Without a certificate of ours, Redis's default is to refuse.
    assert!(!start(known).await.unwrap().is_reachable());
    let others = Trust::from_pem(Pki::new().ca_pem().as_bytes()).unwrap();
    let unknown = at.trust_only(others).unwrap().identity(identity()).unwrap();
    assert!(refused(start(unknown).await).contains("certificate of Redis"));
    // TLS is not spoken on the other end.
    let plain = RedisServer::new(&format!("redis://localhost:{port}")).unwrap();
    assert!(!start(plain).await.unwrap().is_reachable());
    std::fs::remove_dir_all(&folder).unwrap();
}

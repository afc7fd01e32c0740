//! Nodes that share a Redis, and whose clocks differ. With a real Redis:
//! `cargo test -p bowline-server --features redis redis -- --ignored`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_proof::dpop::{DpopCheck, Nonce};
use bowline_testkit::peers::Redis;

use super::super::fixture::*;
use super::{DpopFixture, dpop_check};
use crate::{Dpop, DpopNonces, NodeSecrets, RedisReplayStore, RedisServer};

const APART: u64 = 20;

const PERIOD: u64 = 150;

/// A node by whose clock it is `now`.
async fn node(redis: &Redis, now: u64, nonces: bool) -> DpopFixture {
    let secrets = NodeSecrets::new([[7; 32]]).unwrap();
    let server = RedisServer::new(&redis.url()).unwrap();
    let store = RedisReplayStore::builder(server, secrets.clone());
    let store = store.command_timeout(Duration::from_secs(10)).start();
    let mut dpop = Dpop::new(store.await.unwrap());
    if nonces {
        dpop = dpop.nonces(DpopNonces::shared(&secrets, Duration::from_secs(PERIOD)));
    }
    let fixture = DpopFixture::with(dpop);
    fixture.base.now.store(now, Ordering::SeqCst);
    fixture
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_proof_passes_once_at_nodes_whose_clocks_are_20_s_apart() {
    let redis = Redis::start(&[]);
    let mut ahead = node(&redis, NOW + APART, false).await;
    let mut behind = node(&redis, NOW, false).await;
    // From the oldest to the newest that one of the two accepts.
    let ages = [300, 290, 280, 0].map(|age| NOW - age);
    let futures = [40, 60, 70, 80].map(|future| NOW + future);
    for iat in ages.into_iter().chain(futures) {
        for order in [true, false] {
            let jti = format!("{iat} {order}");
            let (first, second) = match order {
                true => (&mut ahead, &mut behind),
                false => (&mut behind, &mut ahead),
            };
            for node in [&mut *first, &mut *second] {
                node.claims["iat"] = iat.into();
                node.renew(&jti);
            }
            let passed = first.send().await.has_passed();
            let again = second.send().await;
            let accepted = usize::from(passed) + usize::from(again.has_passed());
            assert_eq!(accepted, 1, "{jti}");
            if passed && dpop_check(&again) != Some(DpopCheck::Replay) {
                assert_eq!(dpop_check(&again), Some(DpopCheck::IssuedAt), "{jti}");
            }
        }
    }
}

/// The node that is ahead accepts a proof a minute before its time; the one behind does so until five
/// minutes after it.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn redis_keeps_a_proof_for_as_long_as_the_node_whose_clock_is_behind_accepts_it() {
    let redis = Redis::start(&[]);
    let mut ahead = node(&redis, NOW + APART, false).await;
    let mut behind = node(&redis, NOW, false).await;
    let iat = NOW + APART + 60;
    ahead.claims["iat"] = iat.into();
    behind.claims["iat"] = iat.into();
    assert!(ahead.send().await.has_passed());
    let last = iat + 300;
    for (now, check) in [
        (NOW, DpopCheck::IssuedAt),
        (NOW + APART, DpopCheck::Replay),
        (last, DpopCheck::Replay),
        (last + 1, DpopCheck::IssuedAt),
    ] {
        behind.base.now.store(now, Ordering::SeqCst);
        assert_eq!(dpop_check(&behind.send().await), Some(check), "{now}");
    }
    let keys = redis.command(&["KEYS", "bowline:jti:*"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    let left: u64 = redis.command(&["TTL", &keys])[1..].parse().unwrap();
    assert!(left > last - NOW, "{left} s left, {} s needed", last - NOW);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_nonce_of_the_node_that_is_ahead_is_accepted_by_the_one_behind() {
    let redis = Redis::start(&[]);
    // Between the two clocks a period ends.
    let boundary = NOW - NOW % PERIOD;
    let mut ahead = node(&redis, boundary + 5, true).await;
    let mut behind = node(&redis, boundary + 5 - APART, true).await;
    let asked = ahead.send().await;
    assert_eq!(dpop_check(&asked), Some(DpopCheck::Nonce));
    let nonce = Nonce::from_response(asked.response.headers()).unwrap();
    for node in [&mut ahead, &mut behind] {
        node.claims["nonce"] = nonce.as_str().into();
        node.claims["iat"] = boundary.into();
    }
    let passed = behind.send().await;
    assert!(passed.has_passed());
    assert_eq!(passed.header("dpop-nonce"), None, "it has the newest");
    assert_eq!(dpop_check(&ahead.send().await), Some(DpopCheck::Replay));
    assert!(ahead.renew("2").send().await.has_passed());
}

//! Many proofs and their replays at two nodes, while Redis is restarted twice: `just redis-restarts`
//! sends 100,000 requests.

#![allow(clippy::print_stdout, reason = "the counts are there to be read")]

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;

/// As the page of several nodes says it: what `appendfsync everysec` may lose.
const WINDOW: Duration = Duration::from_secs(2);

/// Clients at a time, each with a connection to both nodes.
const CLIENTS: usize = 8;

/// How many of the proofs that had passed are sent again after a restart.
const LAST: usize = 5_000;

/// A proof that has passed, and when it did.
type Used = (HeaderValue, Instant);

#[derive(Default)]
struct Counts {
    passed: AtomicUsize,
    refused_replays: AtomicUsize,
    unavailable: AtomicUsize,
    /// When it was used, and when again.
    accepted_replays: Mutex<Vec<(Instant, Instant)>>,
}

impl Counts {
    fn requests(&self) -> usize {
        let accepted = self.accepted_replays.lock().unwrap().len();
        let counts = [&self.passed, &self.refused_replays, &self.unavailable];
        let counted = counts.map(|count| count.load(Ordering::Relaxed));
        accepted + counted.iter().sum::<usize>()
    }

    /// Counts what a replay has got.
    fn replayed(&self, answer: &Answer, used: Instant) {
        match answer.status {
            StatusCode::OK => {
                let mut accepted = self.accepted_replays.lock().unwrap();
                accepted.push((used, Instant::now()));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                self.unavailable.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                answer.assert_refused("DP-14");
                self.refused_replays.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn no_replay_passes_while_redis_is_restarted_twice() {
    let total = std::env::var("TEST_REQUESTS");
    let total: usize = total.map_or(3_000, |total| total.parse().expect("a number"));
    let mut pair = Pair::start(&["--appendonly", "yes", "--appendfsync", "everysec"], &[]).await;
    let counts = Arc::new(Counts::default());
    let used: Arc<Mutex<Vec<Used>>> = Arc::default();
    let begun = Instant::now();
    let mut clients = Vec::new();
    let agent = Arc::new(Agent::new(&pair.scene));
    for client in 0..CLIENTS {
        let mut nodes = Vec::new();
        for ingress in &pair.ingresses {
            nodes.push(pair.scene.connect(ingress, Alpn::Http2).await);
        }
        let (agent, counts, used) = (agent.clone(), counts.clone(), used.clone());
        clients.push(tokio::spawn(async move {
            let mut at = client % 2;
            while counts.requests() < total {
                let proof = agent.proof(None);
                let answer = nodes[at].get(agent.request(&proof)).await;
                at = 1 - at;
                if answer.status == StatusCode::OK {
                    let now = Instant::now();
                    counts.passed.fetch_add(1, Ordering::Relaxed);
                    used.lock().unwrap().push((proof.clone(), now));
                    let answer = nodes[at].get(agent.request(&proof)).await;
                    counts.replayed(&answer, now);
                } else {
                    assert_unavailable(&answer);
                    counts.unavailable.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }

    let mut rows = String::new();
    let mut lost_since = Vec::new();
    for (number, how) in [(1, "stopped (SIGTERM)"), (2, "killed (SIGKILL)")] {
        let there = async {
            while counts.requests() < total * number / 3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), there)
            .await
            .expect("requests are answered");
        let away = Instant::now();
        if number == 1 {
            pair.redis.stop()
        } else {
            pair.redis.kill()
        }
        // What was answered after this cannot be what the end has lost.
        let ended = Instant::now();
        // The former ones were idle for too long.
        pair.reconnect().await;
        pair.serves(0, false).await;
        pair.redis.start_again();
        pair.serves(0, true).await;
        pair.serves(1, true).await;
        let back = away.elapsed();
        lost_since.push((number == 2).then_some((away, ended)));
        // What passed last, once more.
        let before = used.lock().unwrap().clone();
        let again = Counts::default();
        let mut at_risk = 0;
        for (index, (proof, at)) in before.iter().rev().take(LAST).enumerate() {
            at_risk += usize::from(ended.saturating_duration_since(*at) < WINDOW);
            let answer = pair.nodes[index % 2].get(agent.request(proof)).await;
            again.replayed(&answer, *at);
        }
        let accepted = std::mem::take(&mut *again.accepted_replays.lock().unwrap());
        for (at, _) in &accepted {
            let age = ended.saturating_duration_since(*at);
            assert!(
                number == 2 && age < WINDOW,
                "a proof of {age:?} before the end"
            );
        }
        let refused = again.refused_replays.load(Ordering::Relaxed);
        let unavailable = again.unavailable.load(Ordering::Relaxed);
        writeln!(
            rows,
            "| {number} | {how} | {} ms | {} | {} | {at_risk} | {refused} | {unavailable} | {} |",
            back.as_millis(),
            before.len(),
            before.len().min(LAST),
            accepted.len()
        )
        .unwrap();
    }
    for client in clients {
        client.await.unwrap();
    }
    let accepted = counts.accepted_replays.lock().unwrap().clone();
    for (used, _) in &accepted {
        let lost = lost_since.iter().flatten();
        let in_window = lost
            .into_iter()
            .any(|(away, ended)| *used < *ended && away.saturating_duration_since(*used) < WINDOW);
        assert!(in_window, "a replay passed outside the window");
    }
    let (passed, refused, unavailable) = (
        counts.passed.load(Ordering::Relaxed),
        counts.refused_replays.load(Ordering::Relaxed),
        counts.unavailable.load(Ordering::Relaxed),
    );
    assert!(
        passed > total / 3 && unavailable > 0,
        "{passed} {unavailable}"
    );
    let summary = format!(
        "{} requests in {} s, by {CLIENTS} clients at a time: {passed} proofs passed, {refused} replays at the other node were refused (DP-14), \
         {unavailable} requests were answered 503, {} replays passed.\n\n\
         After each restart the proofs that had passed last were sent again:\n\n\
         | restart | Redis was | service again after | proofs that had passed until then | sent again | of the last {} s before the end | refused (DP-14) | answered 503 | passed |\n\
         |---|---|---|---|---|---|---|---|---|\n{rows}",
        counts.requests(),
        begun.elapsed().as_secs(),
        accepted.len(),
        WINDOW.as_secs(),
    );
    println!("{summary}");
    if let Some(path) = std::env::var_os("BOWLINE_EVIDENCE") {
        std::fs::write(path, summary).expect("the file is writable");
    }
}

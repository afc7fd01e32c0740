//! What the end of a connection costs the requests that come just after it, with and without a
//! successor that was opened ahead.
//!
//! An open loop: requests arrive at a fixed rate, whatever became of those before, and each is
//! timed from when it was to arrive. The kinds of end run side by side, the hurried ones apart. The
//! whole takes more than half an hour: name the cases to measure.
//!
//! `cargo bench -p bowline-http-client --bench replace`; `docs/src/pool.md` says what it means.

mod common;
#[path = "replace/hostile.rs"]
mod hostile;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bowline_http_client::{
    AccessToken, Cause, Client, CloseReason, Error, Event, HttpVersions, Identity, Limits,
    Observer, Snapshot,
};
use bowline_testkit::peers::{Cycle, CyclingOptions, CyclingServer, Distance};
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use common::figures::{Figures, progress, quantile};
use common::fixture::{Fixture, Http};
use common::options::Options;
use common::slow::{Slow, SlowKey};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use tokio::time::{Instant, sleep_until};

const TOKENS: usize = 4;
/// So many ends make a habit.
const HABIT: usize = 8;
/// In lives of a connection. Where several share the requests, eight ends by their number take longer.
const LONGEST_WARM_UP: usize = 32;
/// How long a byte takes to or from a server that is far away.
const EACH_WAY: Duration = Duration::from_millis(10);
/// "Just after an end".
const AFTER: Duration = Duration::from_secs(1);

fn main() {
    common::child::role();
    let options = Options::from_command_line();
    let figures = common::runtime().block_on(async { tokio::spawn(run(options)).await });
    figures.expect("the measurement").write();
}

/// How connections end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The client ends each at an age of its own.
    Age,
    /// The server, after a number of responses.
    Requests,
    /// The server, at an age: with GOAWAY on HTTP/2.
    Goaway,
}

/// What an opening costs, and how many requests arrive meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    /// A handshake on loopback, with a key in memory: some two milliseconds.
    Near,
    /// The same, with so many requests that on HTTP/1.1 many wait meanwhile, and the pool opens several
    /// connections.
    Hurried,
    /// A server that is far away: two round trips more.
    Far,
    /// A key as slow as one in an HSM signs, for the handshake and for each token.
    SlowKey,
}

#[derive(Clone, Copy)]
struct Case {
    http: Http,
    ends: Ends,
    setting: Setting,
    ahead: bool,
}

impl Case {
    /// Whether it shows something. Of the second after an end, in which p99 is taken, two
    /// milliseconds are a five-hundredth, and on HTTP/2 no rate makes them more before the machine
    /// is overloaded. Hurried, no connection comes to its last request in the time of a run.
    fn is_useful(self) -> bool {
        self.setting != Setting::Hurried || self.http == Http::H1 && self.ends != Ends::Requests
    }

    /// Between two arrivals.
    fn pace(self) -> Duration {
        match self.setting {
            Setting::Near => Duration::from_millis(1),
            Setting::Hurried => Duration::from_secs(1) / 6000,
            Setting::Far | Setting::SlowKey => Duration::from_millis(5),
        }
    }

    /// How long before its end is noted a connection may have taken its last request. It is closed
    /// when the last answer has arrived; those that wait for the next one have come before.
    fn noted_after(self) -> Duration {
        match self.setting {
            Setting::Far => EACH_WAY * 3,
            Setting::Near | Setting::Hurried | Setting::SlowKey => Duration::ZERO,
        }
    }

    fn name(self) -> String {
        let ends = match self.ends {
            Ends::Age => "age",
            Ends::Requests => "requests",
            Ends::Goaway => "goaway",
        };
        let setting = match self.setting {
            Setting::Near => "soft_key",
            Setting::Hurried => "soft_key.hurried",
            Setting::Far => "soft_key.delayed",
            Setting::SlowKey => "slow_key",
        };
        let ahead = if self.ahead { "on" } else { "off" };
        format!("{}.{ends}.{setting}.{ahead}", self.http.name())
    }
}

async fn run(options: Options) -> Figures {
    let mut figures = Figures::new("replace", &options);
    // With a shorter life, more than ten a minute would be opened ahead, and then none.
    let (life, ends) = options.pick((Duration::from_secs(10), 6), (Duration::from_secs(8), 2));
    for http in Http::BOTH {
        for setting in [
            Setting::Near,
            Setting::Hurried,
            Setting::Far,
            Setting::SlowKey,
        ] {
            // Hurried, one alone is what this machine can do.
            let at_once = if setting == Setting::Hurried { 1 } else { 3 };
            for ahead in [true, false] {
                let cases = [Ends::Age, Ends::Requests, Ends::Goaway].map(|ends| Case {
                    http,
                    ends,
                    setting,
                    ahead,
                });
                let cases = cases
                    .into_iter()
                    .filter(|case| case.is_useful() && options.wants(&case.name()));
                let measured = cases.map(|case| {
                    progress(case.name());
                    measure(case, life, ends)
                });
                let measured = stream::iter(measured).buffered(at_once);
                for (name, value) in measured.collect::<Vec<_>>().await.into_iter().flatten() {
                    figures.record(name, value);
                }
            }
        }
    }
    hostile::measure(&options, &mut figures).await;
    figures
}

/// Sends a request that may be repeated. Even so it may fail: an HTTP/1.1 server may close a
/// connection just as the request is written, and the next one too.
#[derive(Clone)]
struct Caller {
    client: Client,
    uri: Uri,
    token: AccessToken,
}

impl Caller {
    async fn call(&self) -> Result<(), Error> {
        let request = Request::get(self.uri.clone())
            .extension(self.token.clone())
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let response = self.client.send(request).await?;
        assert_eq!(response.status(), StatusCode::OK);
        drop(response.into_body().collect().await);
        Ok(())
    }
}

/// When connections ended.
#[derive(Clone, Default)]
struct Ended(Arc<Mutex<Vec<Instant>>>);

impl Ended {
    /// How many there were; those within a second of each other are one.
    fn number(&self) -> usize {
        let ended = self.0.lock().expect("no panic");
        let apart = ended.windows(2).filter(|two| two[1] - two[0] >= AFTER);
        apart.count() + usize::from(!ended.is_empty())
    }
}

impl Observer for Ended {
    fn event(&self, event: &Event<'_>) {
        if let Event::ConnectionClosed { reason, .. } = *event
            && reason != CloseReason::Idle
        {
            self.0.lock().expect("no panic").push(Instant::now());
        }
    }
}

async fn measure(case: Case, life: Duration, ends: u32) -> Vec<(String, f64)> {
    let fixture = Fixture::new();
    let a_life = u64::try_from(life.as_nanos() / case.pace().as_nanos()).expect("few requests");
    let cycle = Cycle {
        max_age: (case.ends == Ends::Goaway).then_some(life),
        max_responses: (case.ends == Ends::Requests).then_some(a_life),
        ..Cycle::default()
    };
    let options = CyclingOptions {
        cycle,
        alpn: match case.http {
            Http::H1 => Alpn::Http1,
            Http::H2 => Alpn::Http2,
        },
        ..CyclingOptions::default()
    };
    let answer = || async { "0123456789".repeat(10) };
    let server = CyclingServer::start(fixture.pki(), options, Router::new().fallback(answer));
    let distance = (case.setting == Setting::Far).then(|| Distance::start(server.addr(), EACH_WAY));
    let origin = distance.as_ref().map_or(server.origin(), Distance::origin);
    let slow = Slow::default();
    let is_slow = case.setting == Setting::SlowKey;
    slow.is_slow.store(is_slow, Ordering::Relaxed);
    let key = SlowKey {
        key: fixture.agent.signing_key(),
        slow,
    };
    let ended = Ended::default();
    let mut limits = Limits::default();
    limits.ahead = case.ahead;
    limits.age = (case.ends == Ends::Age).then_some(life);
    let client = fixture
        .client()
        .bowline(case.http)
        .http_versions(HttpVersions::Auto)
        .identity(Identity::new(fixture.agent.chain(), Arc::new(key)).expect("a pair"))
        .limits(limits)
        .observer(Arc::new(ended.clone()) as Arc<dyn Observer>)
        .build()
        .expect("a client");
    let callers: Vec<_> = (0..TOKENS)
        .map(|_| Caller {
            client: client.clone(),
            uri: origin.parse().expect("a URI"),
            token: AccessToken::new(fixture.session_bound()).expect("a token"),
        })
        .collect();
    for caller in &callers {
        caller.call().await.expect("an answer");
    }

    // Without a habit to learn, one end is enough to warm up. With one, the first eight ends are not
    // counted.
    let warm_up = match case.ends {
        Ends::Age => 1,
        Ends::Requests | Ends::Goaway if case.ahead => HABIT,
        Ends::Requests | Ends::Goaway => 1,
    };
    let mut warm = Instant::now();
    for _ in 0..LONGEST_WARM_UP {
        let started = warm;
        warm += life;
        arrive(&callers, case.pace(), started, warm).await;
        if ended.number() >= warm_up {
            break;
        }
    }
    let counted = warm + life / 2;
    let until = counted + life * ends;
    let calls = arrive(&callers, case.pace(), warm, until).await;
    let counted: Vec<_> = calls.into_iter().filter(|(at, _)| *at >= counted).collect();
    figures(case, &counted, &ended, &client.stats())
}

/// Sends requests at a fixed rate; returns when each was to arrive, and how long it took from then
/// on.
async fn arrive(
    callers: &[Caller],
    pace: Duration,
    started: Instant,
    until: Instant,
) -> Vec<(Instant, Duration)> {
    let mut calls = Vec::new();
    let mut next = started;
    for caller in callers.iter().cycle() {
        if next >= until {
            break;
        }
        sleep_until(next).await;
        let (at, caller) = (next, caller.clone());
        calls.push(tokio::spawn(async move {
            // The time until it failed counts like that until it was answered.
            drop(caller.call().await);
            (at, at.elapsed())
        }));
        next += pace;
    }
    join_all(calls)
        .await
        .into_iter()
        .map(|call| call.expect("an answer"))
        .collect()
}

fn figures(
    case: Case,
    calls: &[(Instant, Duration)],
    ended: &Ended,
    stats: &Snapshot,
) -> Vec<(String, f64)> {
    let ended = ended.0.lock().expect("no panic");
    let first = calls.first().map(|(at, _)| *at);
    let ends: Vec<_> = ended
        .iter()
        .filter(|end| first.is_some_and(|first| **end >= first))
        .collect();
    let late = case.noted_after();
    let is_after = |at: Instant| {
        ends.iter()
            .any(|end| at + late >= **end && at < **end + AFTER)
    };
    let sorted = |after: bool| {
        let calls = calls.iter().filter(|(at, _)| is_after(*at) == after);
        let mut took: Vec<_> = calls.map(|(_, took)| *took).collect();
        took.sort();
        took
    };
    let (rest, after) = (sorted(false), sorted(true));
    let micros = |took: &[Duration], share| quantile(took, share).as_secs_f64() * 1e6;
    let [(rest99, after99), (rest999, after999)] =
        [0.99, 0.999].map(|share| (micros(&rest, share), micros(&after, share)));
    let proofs_ahead = stats.totals.causes.get(&Cause::Ahead).copied().unwrap_or(0);
    let name = case.name();
    let figure = |what: &str, value: f64| (format!("{name}.{what}"), value);
    vec![
        figure("ends", ends.len() as f64),
        figure("p99_at_rest_microseconds", rest99),
        figure("p99_after_an_end_microseconds", after99),
        figure("after_vs_rest", after99 / rest99),
        figure("p999_at_rest_microseconds", rest999),
        figure("p999_after_an_end_microseconds", after999),
        figure("after_vs_rest_p999", after999 / rest999),
        figure("connections", stats.connections_opened as f64),
        figure("opened_ahead", stats.ahead.opened as f64),
        figure("never_used", stats.ahead.never_used as f64),
        figure("stopped", stats.ahead.stopped as f64),
        figure("proofs_ahead", proofs_ahead as f64),
        figure("signatures", stats.totals.signatures() as f64),
        figure("abandoned", stats.totals.abandoned as f64),
        figure("requests", stats.totals.requests as f64),
        figure(
            "failed",
            (stats.totals.requests - stats.totals.answered) as f64,
        ),
    ]
}

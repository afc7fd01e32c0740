//! Instructions per warm request, with one and with many.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::common::callgrind::{callgrind, calls_into, collected};
use crate::common::child::{self, Child, ServerProcess};
use crate::common::crowd::{Crowd, Many};
use crate::common::figures::{Figures, progress};
use crate::common::fixture::{Credentials, Fixture, Http};
use crate::common::one_thread;
use crate::common::options::Options;
use crate::common::rounds::processor_time;
use crate::common::server::Settings;

pub(crate) const CALLER: &str = "scale-caller";
pub(crate) const TIMED_CALLER: &str = "scale-timed-caller";

/// The job of a process under valgrind.
#[derive(Serialize, Deserialize)]
struct Job {
    credentials: Credentials,
    http: Http,
    many: Many,
    number: usize,
    origins: Vec<String>,
    calls: usize,
}

impl Job {
    async fn crowd(&self) -> Crowd {
        let Self {
            credentials,
            http,
            many,
            number,
            origins,
            ..
        } = self;
        Crowd::warm(*many, *number, credentials, *http, origins).await
    }
}

pub(crate) fn measure(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    for http in Http::BOTH {
        for many in Many::ALL {
            let part = format!("{}.instructions.{}", http.name(), many.name());
            if !options.wants(&part) {
                continue;
            }
            let settings = Settings {
                streams: many.streams(),
                ..Settings::new(http)
            };
            let largest = match many {
                Many::Origins => options.pick(1000, 20),
                Many::Connections | Many::Apart => options.pick(64, 4),
                Many::Tokens | Many::Fields => options.pick(100_000, 200),
            };
            let origins = many.origins(largest);
            let server = ServerProcess::with_origins(&fixture.server(), settings, origins);
            for number in [1, largest] {
                let name = format!("{part}.{number}");
                progress(&name);
                let job = Job {
                    credentials: fixture.client(),
                    http,
                    many,
                    number,
                    origins: server.origins[..many.origins(number)].to_vec(),
                    // Whole turns of what takes turns, as far as that is affordable.
                    calls: options.pick(4000, 200),
                };
                let Some(count) = counted(&name, &job) else {
                    return;
                };
                figures.record(name, count as f64 / job.calls as f64);
            }
            let of = |number| figures.recorded(&format!("{part}.{number}"));
            if let (Some(one), Some(all)) = (of(1), of(largest)) {
                figures.record(format!("{part}.ratio"), all / one);
            }
        }
    }
}

/// How often a warm request takes the pool's lock, and for how long in all. The time is computed:
/// the instructions of the functions that take it, times the time that this client needs for an
/// instruction. It is a little too long, since these functions do something before and after.
pub(crate) fn lock(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    const CORES: f64 = 16.0;
    for http in Http::BOTH {
        let part = format!("{}.lock", http.name());
        if !options.wants(&part) {
            continue;
        }
        progress(&part);
        let server = ServerProcess::start(&fixture.server(), Settings::new(http));
        let job = |calls| Job {
            credentials: fixture.client(),
            http,
            many: Many::Origins,
            number: 1,
            origins: server.origins.clone(),
            calls,
        };
        let counting = job(options.pick(4000, 200));
        let Some(all) = counted(&part, &counting) else {
            return;
        };
        let calls = counting.calls as f64;
        let locked = calls_into(&part, |name| {
            name.starts_with("bowline_http_client::pool::Pool::")
        });
        let timing = job(options.pick(200_000, 5000));
        let answer = Child::start(TIMED_CALLER, &timing).answer();
        let [user, busy]: [f64; 2] = serde_json::from_str(&answer).expect("two times");
        let nanos = locked.instructions as f64 / calls * user / (all as f64 / calls);
        figures.record(
            format!("{part}.acquisitions_per_request"),
            locked.number as f64 / calls,
        );
        figures.record(
            format!("{part}.instructions_per_request"),
            locked.instructions as f64 / calls,
        );
        figures.record(format!("{part}.nanoseconds_per_request"), nanos);
        figures.record(format!("{part}.client_nanoseconds_per_request"), busy);
        // If all cores did nothing but what this client does for its requests.
        figures.record(format!("{part}.share_at_16_cores"), CORES * nanos / busy);
    }
}

/// The process that measures its time: nanoseconds of a request in user mode, and in all.
pub(crate) fn run_timed_caller() {
    let job: Job = child::job();
    let runtime = one_thread();
    let mut crowd = runtime.block_on(job.crowd());
    let (user, busy) = (user_time(), processor_time());
    measured(&runtime, &mut crowd, job.calls);
    let per_call = |time: Duration| time.as_nanos() as f64 / job.calls as f64;
    let times = [user_time() - user, processor_time() - busy].map(per_call);
    child::answer(serde_json::to_string(&times).expect("JSON"));
}

/// In the kernel's ticks of 10 ms.
fn user_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // After the name, which may contain anything: state, ..., utime is the 12th.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields
        .split_whitespace()
        .nth(11)
        .and_then(|ticks| ticks.parse().ok());
    Duration::from_millis(10) * ticks.expect("a number of ticks")
}

/// The instructions of the calls alone: callgrind counts nothing before the process says that it is
/// warm, so 1,000 handshakes or 100,000 signatures take it little time and add no noise. Counted is
/// what [`measured`] does.
fn counted(profile: &str, job: &Job) -> Option<u64> {
    let options = ["--instr-atstart=no", "--toggle-collect=*measured*"];
    let mut child = callgrind(profile, &options, CALLER, job)?;
    assert_eq!(child.answer(), "warm");
    let switched = Command::new("callgrind_control")
        .args(["--instr=on", &child.id().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        switched.expect("callgrind_control").success(),
        "callgrind_control failed"
    );
    child.tell("go");
    Some(collected(child))
}

/// The process under valgrind.
pub(crate) fn run_caller() {
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let job: Job = child::job();
    let runtime = one_thread();
    let mut crowd = runtime.block_on(job.crowd());
    let before = crowd.client.stats();
    child::answer("warm");
    // Not blocked in a system call: valgrind looks for commands while it runs code.
    let told = std::thread::spawn(child::told);
    while !told.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
    measured(&runtime, &mut crowd, job.calls);
    let after = crowd.client.stats();
    assert_eq!(after.connections_opened, before.connections_opened);
    assert_eq!(after.totals.signatures(), before.totals.signatures());
}

/// Its name is what callgrind looks for.
#[inline(never)]
fn measured(runtime: &tokio::runtime::Runtime, crowd: &mut Crowd, calls: usize) {
    runtime.block_on(crowd.calls(calls));
}

//! Instructions per warm request, with one and with many.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::common::callgrind::{callgrind, collected};
use crate::common::child::{self, ServerProcess};
use crate::common::crowd::{Crowd, Many};
use crate::common::figures::{Figures, progress};
use crate::common::fixture::{Credentials, Fixture, Http};
use crate::common::one_thread;
use crate::common::options::Options;
use crate::common::server::Settings;

pub(crate) const CALLER: &str = "scale-caller";

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
    let mut crowd = runtime.block_on(Crowd::warm(
        job.many,
        job.number,
        &job.credentials,
        job.http,
        &job.origins,
    ));
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

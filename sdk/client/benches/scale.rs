//! How the cost of a request grows with the number of origins, connections and tokens; what many
//! live connections cost; handshakes, the cold start, and latency under a fixed rate of arrivals.
//!
//! `cargo bench -p bowline-http-client --bench scale`; `docs/src/benchmarks.md` says what it means.

mod common;
#[path = "scale/growth.rs"]
mod growth;
#[path = "scale/handshakes.rs"]
mod handshakes;
#[path = "scale/header_table.rs"]
mod header_table;
#[path = "scale/instructions.rs"]
mod instructions;
#[path = "scale/live.rs"]
mod live;
#[path = "scale/open_loop.rs"]
mod open_loop;

use common::figures::Figures;
use common::fixture::Fixture;
use common::options::Options;

fn main() {
    match common::child::role().as_deref() {
        Some(instructions::CALLER) => return instructions::run_caller(),
        Some(instructions::TIMED_CALLER) => return instructions::run_timed_caller(),
        Some(live::CLIENT) => return live::run_client(),
        _ => {}
    }
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let options = Options::from_command_line();
    let mut figures = Figures::new("scale", &options);
    let runtime = common::runtime();
    let fixture = runtime.block_on(async { Fixture::new() });
    instructions::measure(&options, &mut figures, &fixture);
    instructions::lock(&options, &mut figures, &fixture);
    live::measure(&options, &mut figures, &fixture);
    runtime.block_on(async {
        // On a worker thread like all other tasks: the thread of `block_on` is not one.
        let run = tokio::spawn(async move {
            growth::measure(&options, &mut figures, &fixture).await;
            growth::beyond_the_bound(&options, &mut figures, &fixture).await;
            handshakes::measure(&options, &mut figures, &fixture).await;
            handshakes::cold_start(&options, &mut figures, &fixture).await;
            header_table::measure(&options, &mut figures, &fixture).await;
            open_loop::measure(&options, &mut figures, &fixture).await;
            figures
        });
        run.await.expect("the measurement").write();
    });
}

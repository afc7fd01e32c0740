//! `bowline call`: one request, or many, with a token and its proof.

mod console;
mod explain;
mod options;
mod output;
mod places;
mod request;
mod send;
mod setup;
mod tally;
mod trace;

use std::process::ExitCode;
use std::sync::Arc;

use bowline::client::Observer;

pub(crate) use options::CallOptions;

use crate::failure::Failure;
use output::Output;
use request::Template;
use send::Job;
use trace::Tracer;

pub(crate) fn run(options: CallOptions) -> Result<ExitCode, Failure> {
    let template = Template::from_options(&options)?;
    let tracer = options
        .verbose
        .then(|| Arc::new(Tracer::new(options.concurrency)));
    let observers = tracer.iter().map(|t| t.clone() as Arc<dyn Observer>);
    let client = setup::client(&options, &template, observers.collect())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime can be started: {error}")))?;
    let job = Arc::new(Job::new(options, template, client.clone(), tracer));
    let was_interrupted = runtime.block_on(job.clone().run());
    report(&job, &client.stats(), was_interrupted)
}

/// The statistics, and what failed.
fn report(
    job: &Job,
    client: &bowline::Snapshot,
    was_interrupted: bool,
) -> Result<ExitCode, Failure> {
    let options = &job.options;
    job.console.finish();
    let tally = job.tally();
    if options.stats.is_some() {
        let line = tally.json(client).to_string();
        let written = job.with_output(|output: &mut Output| output.line(&line));
        written.map_err(|e| Failure::failed(format!("standard output: {e}")))?;
    } else if options.repeat > 1 && !options.silent {
        job.console.line(tally.summary(client));
    }
    let mut messages = tally.messages.iter();
    match (was_interrupted, messages.next(), messages.len()) {
        (true, _, _) => Err(Failure::failed("interrupted")),
        (_, None, _) => Ok(ExitCode::SUCCESS),
        (_, Some((message, 1)), 0) if options.repeat == 1 => Err(Failure::failed(message)),
        _ => {
            for (message, count) in &tally.messages {
                job.console.line(format!("bowline: {count} x {message}"));
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

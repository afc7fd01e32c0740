//! Sends the requests, as many at a time as --concurrency says.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline::Client;
use bowline::client::{Body, Operation};
use http::Response;
use http_body_util::BodyExt;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::console::{Console, head_text};
use super::explain;
use super::options::CallOptions;
use super::output::Output;
use super::request::Template;
use super::tally::Tally;
use super::trace::Tracer;

pub(super) struct Job {
    pub(super) options: CallOptions,
    pub(super) console: Console,
    template: Template,
    client: Client,
    tracer: Option<Arc<Tracer>>,
    output: Mutex<Output>,
    /// Held while a body is written, so that bodies come one after another.
    writing: AsyncMutex<()>,
    tally: Mutex<Tally>,
    started: AtomicU64,
    has_told_refusal: AtomicBool,
}

/// Why a request failed.
enum Problem {
    Client(bowline::Error),
    MaxTime(Duration),
    Output(io::Error),
}

impl Job {
    pub(super) fn new(
        options: CallOptions,
        template: Template,
        client: Client,
        tracer: Option<Arc<Tracer>>,
    ) -> Self {
        Self {
            console: Console::new(&options),
            template,
            client,
            tracer,
            output: Mutex::new(Output::new(options.output.as_deref(), options.repeat)),
            writing: AsyncMutex::new(()),
            tally: Mutex::new(Tally::new()),
            started: AtomicU64::new(0),
            has_told_refusal: AtomicBool::new(false),
            options,
        }
    }

    /// Sends all requests; returns whether SIGINT ended it before.
    pub(super) async fn run(self: Arc<Self>) -> bool {
        if self.options.verbose {
            self.console.request(&self.template);
        }
        let workers = u64::from(self.options.concurrency).min(self.options.repeat);
        let mut tasks = JoinSet::new();
        for worker in 0..usize::try_from(workers).unwrap_or(1) {
            tasks.spawn(self.clone().work(worker));
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all => false,
            Ok(()) = tokio::signal::ctrl_c() => true,
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_output<T>(&self, write: impl FnOnce(&mut Output) -> T) -> T {
        write(&mut self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn work(self: Arc<Self>, worker: usize) {
        while self.started.fetch_add(1, Ordering::Relaxed) < self.options.repeat {
            let started = Instant::now();
            let exchange = self.exchange(worker);
            let result = match self.options.max_time {
                None => exchange.await,
                Some(limit) => timeout(limit, exchange)
                    .await
                    .unwrap_or(Err(Problem::MaxTime(limit))),
            };
            let mut tally = self.tally();
            tally.requests += 1;
            match result {
                Ok(()) => tally.answered(started.elapsed()),
                Err(problem) => {
                    tally.errors += 1;
                    tally.message(self.explain(&problem));
                }
            }
            drop(tally);
            self.console.advance();
        }
    }

    /// One request and its whole answer.
    async fn exchange(&self, worker: usize) -> Result<(), Problem> {
        let operation = match &self.tracer {
            Some(tracer) => tracer.operation(worker),
            None => Operation::OTHER,
        };
        let sent = self.client.send(self.template.request(operation)).await;
        if let Some(tracer) = &self.tracer {
            self.console.line(format!("* {}", tracer.take(worker)));
        }
        let (head, body) = sent.map_err(Problem::Client)?.into_parts();
        let status = head.status;
        *self.tally().by_status.entry(status.as_u16()).or_default() += 1;
        if self.options.verbose && self.options.repeat == 1 {
            self.console.response(&head);
        }
        if let Some(refusal) = explain::refusal(&head, &self.options)
            && !self.options.silent
            && !self.has_told_refusal.swap(true, Ordering::Relaxed)
        {
            self.console.line(format!("bowline: {refusal}"));
        }
        if self.options.fail && (status.is_client_error() || status.is_server_error()) {
            {
                let mut tally = self.tally();
                tally.failed_answers += 1;
                tally.message(format!("the server answered {status}"));
            }
            return discard(body).await;
        }
        self.write(Response::from_parts(head, body)).await
    }

    async fn write(&self, response: Response<Body>) -> Result<(), Problem> {
        let (head, mut body) = response.into_parts();
        if self.with_output(|output| output.is_discard()) {
            return discard(body).await;
        }
        let _in_turn = self.writing.lock().await;
        if self.options.include {
            self.with_output(|output| output.write(&head_text(&head)))
                .map_err(Problem::Output)?;
        }
        // So that the file is there even if the body is empty.
        self.with_output(|output| output.write(b""))
            .map_err(Problem::Output)?;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(Problem::Client)?.into_data() {
                self.with_output(|output| output.write(&data))
                    .map_err(Problem::Output)?;
            }
        }
        Ok(())
    }

    fn explain(&self, problem: &Problem) -> String {
        match problem {
            Problem::Client(error) => explain::error(error, &self.options),
            Problem::MaxTime(limit) => {
                format!("the request did not end within {limit:?} (--max-time)")
            }
            Problem::Output(error) => match &self.options.output {
                Some(path) => format!("{} cannot be written: {error}", path.display()),
                None => format!("standard output cannot be written: {error}"),
            },
        }
    }
}

/// Reads the body to its end, so that its connection can be used again.
async fn discard(mut body: Body) -> Result<(), Problem> {
    while let Some(frame) = body.frame().await {
        frame.map_err(Problem::Client)?;
    }
    Ok(())
}

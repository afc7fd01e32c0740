//! The cost that a known proof adds to a request: allocations, instructions, bytes. Counted, not
//! timed.
//!
//! `cargo bench -p bowline-http-client --bench warm_path`; `docs/src/benchmarks.md` says what it means.
//! Instructions need `valgrind`; without it they are left out.

mod common;

use std::alloc::System;

use bowline_http_client::{Client, DpopKey};
use common::callers::{AnyCaller, Bowline, Caller, Hyper, Reqwest};
use common::callgrind::{callgrind, collected};
use common::child::ServerProcess;
use common::figures::{Figures, progress};
use common::fixture::{Credentials, Fixture, Http};
use common::options::Options;
use common::server::{Server, Settings};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The client that sends the request, and the credentials that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Variant {
    HyperBearer,
    HyperProof,
    BowlineBearer,
    BowlineProof,
    /// The token as a string in `Authorization` instead of an `AccessToken`.
    BowlineProofByField,
    BowlineDpop,
    Reqwest,
    ReqwestDpop,
}

impl Variant {
    const ALL: [Self; 8] = [
        Self::HyperBearer,
        Self::HyperProof,
        Self::BowlineBearer,
        Self::BowlineProof,
        Self::BowlineProofByField,
        Self::BowlineDpop,
        Self::Reqwest,
        Self::ReqwestDpop,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::HyperBearer => "hyper_bearer",
            Self::HyperProof => "hyper_proof",
            Self::BowlineBearer => "bowline_bearer",
            Self::BowlineProof => "bowline_proof",
            Self::BowlineProofByField => "bowline_proof_by_field",
            Self::BowlineDpop => "bowline_dpop",
            Self::Reqwest => "reqwest",
            Self::ReqwestDpop => "reqwest_dpop",
        }
    }
}

/// The job of a process under valgrind.
#[derive(Serialize, Deserialize)]
struct Job {
    credentials: Credentials,
    http: Http,
    origin: String,
    tokens: Tokens,
    variant: Variant,
    calls: u32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Tokens {
    bearer: String,
    session: String,
}

const CALLER: &str = "caller";

fn main() {
    if common::child::role().as_deref() == Some(CALLER) {
        return run_caller();
    }
    let options = Options::from_command_line();
    let mut figures = Figures::new("warm_path", &options);
    let runtime = common::runtime();
    let fixture = runtime.block_on(async { Fixture::new() });
    let tokens = Tokens {
        bearer: fixture.bearer(),
        session: fixture.session_bound(),
    };
    for http in Http::BOTH {
        let server = ServerProcess::start(&fixture.server(), Settings::new(http));
        let counts = Counts {
            options: &options,
            figures: &mut figures,
            credentials: fixture.client(),
            tokens: tokens.clone(),
            http,
            origin: server.origin.clone(),
        };
        counts.all();
    }
    runtime.block_on(bytes(&options, &mut figures, &fixture));
    figures.write();
}

/// The counts with one HTTP version.
struct Counts<'a> {
    options: &'a Options,
    figures: &'a mut Figures,
    credentials: Credentials,
    tokens: Tokens,
    http: Http,
    origin: String,
}

impl Counts<'_> {
    fn all(mut self) {
        self.each("allocations", |counts, variant| {
            Some(counts.allocations(variant))
        });
        self.each("instructions", Self::instructions);
    }

    /// Counts for each variant, and the difference that a proof makes.
    fn each(&mut self, what: &str, count: impl Fn(&Self, Variant) -> Option<f64>) {
        let part = format!("{}.{what}", self.http.name());
        let mut found = Vec::new();
        for variant in Variant::ALL {
            let name = format!("{part}.{}", variant.name());
            if !self.options.wants(&name) {
                continue;
            }
            progress(&name);
            let Some(value) = count(self, variant) else {
                return;
            };
            self.figures.record(name, value);
            found.push((variant, value));
        }
        let count_of = |wanted: Variant| {
            found
                .iter()
                .find(|(variant, _)| *variant == wanted)
                .map(|(_, value)| *value)
        };
        let added = [
            ("proof_adds", Variant::BowlineProof, Variant::BowlineBearer),
            (
                "proof_adds_to_hyper",
                Variant::HyperProof,
                Variant::HyperBearer,
            ),
        ];
        for (name, with, without) in added {
            if let (Some(with), Some(without)) = (count_of(with), count_of(without)) {
                self.figures
                    .record(format!("{part}.{name}"), with - without);
            }
        }
    }

    /// Per call, after some calls that are not counted. A reallocation counts as one.
    fn allocations(&self, variant: Variant) -> f64 {
        const FIRST: u32 = 200;
        let calls = self.options.pick(5000, 500);
        common::one_thread().block_on(async {
            let mut caller = self.job(variant, 0).caller().await;
            for _ in 0..FIRST {
                caller.call().await;
            }
            let region = Region::new(ALLOCATOR);
            for _ in 0..calls {
                caller.call().await;
            }
            let change = region.change();
            (change.allocations + change.reallocations) as f64 / f64::from(calls)
        })
    }

    /// Per call: a run with many calls minus one with few, so that everything that is done once
    /// cancels out. The random part of the handshakes' cryptography does not: some 100,000
    /// instructions, divided by all calls.
    fn instructions(&self, variant: Variant) -> Option<f64> {
        const FEW: u32 = 100;
        let calls = self.options.pick(5000, 500);
        let (few, many) = (
            self.collected(variant, FEW)?,
            self.collected(variant, FEW + calls)?,
        );
        Some((many as f64 - few as f64) / f64::from(calls))
    }

    /// All instructions of a process that makes this many calls.
    fn collected(&self, variant: Variant, calls: u32) -> Option<u64> {
        let profile = format!("{}.{}", self.http.name(), variant.name());
        let child = callgrind(&profile, &[], CALLER, &self.job(variant, calls))?;
        Some(collected(child))
    }

    fn job(&self, variant: Variant, calls: u32) -> Job {
        Job {
            credentials: self.credentials.clone(),
            http: self.http,
            origin: self.origin.clone(),
            tokens: self.tokens.clone(),
            variant,
            calls,
        }
    }
}

impl Job {
    async fn caller(&self) -> AnyCaller {
        let Self {
            credentials,
            http,
            origin,
            ..
        } = self;
        let Tokens { bearer, session } = &self.tokens;
        let client = || credentials.bowline(*http).build().expect("a client");
        let hyper = async |token, prover| {
            Hyper::connect(&credentials.tls(*http), *http, origin, token, prover).await
        };
        match self.variant {
            Variant::HyperBearer => AnyCaller::Hyper(hyper(bearer, None).await),
            Variant::HyperProof => AnyCaller::Hyper(hyper(session, Some(credentials)).await),
            Variant::BowlineBearer => AnyCaller::Bowline(Bowline::new(client(), origin, bearer)),
            Variant::BowlineProof => AnyCaller::Bowline(Bowline::new(client(), origin, session)),
            Variant::BowlineProofByField => {
                AnyCaller::Bowline(Bowline::with_authorization(client(), origin, session))
            }
            Variant::BowlineDpop => AnyCaller::Bowline(
                Bowline::new(dpop_client(credentials, *http), origin, bearer).by_dpop(),
            ),
            Variant::Reqwest => {
                AnyCaller::Reqwest(Reqwest::bearer(credentials, *http, origin, bearer))
            }
            Variant::ReqwestDpop => AnyCaller::Reqwest(Reqwest::dpop(
                credentials,
                *http,
                origin,
                bearer,
                &any_key(),
            )),
        }
    }
}

/// The server does not verify the DPoP proofs here.
fn any_key() -> DpopKey {
    DpopKey::generate().expect("randomness")
}

fn dpop_client(credentials: &Credentials, http: Http) -> Client {
    credentials
        .bowline(http)
        .dpop_key(any_key())
        .build()
        .expect("a client")
}

/// The process under valgrind.
fn run_caller() {
    let job: Job = common::child::job();
    common::one_thread().block_on(async {
        let mut caller = job.caller().await;
        for _ in 0..job.calls {
            caller.call().await;
        }
    });
}

/// Bytes that each request takes on the wire, TLS records included, when requests use the tokens in
/// turn.
async fn bytes(options: &Options, figures: &mut Figures, fixture: &Fixture) {
    const TABLES: [(&str, u32); 2] = [("table4k", 4096), ("table64k", 65_536)];
    let settings = Settings::new(Http::H1);
    if options.wants("h1.bytes") {
        let bearer =
            bytes_per_request(options, fixture, settings, &[fixture.bearer()], false).await;
        let proof = bytes_per_request(
            options,
            fixture,
            settings,
            &[fixture.session_bound()],
            false,
        )
        .await;
        let dpop = bytes_per_request(options, fixture, settings, &[fixture.bearer()], true).await;
        figures.record("h1.bytes.bearer", bearer);
        figures.record("h1.bytes.proof_adds", proof - bearer);
        figures.record("h1.bytes.dpop_adds", dpop - bearer);
    }
    for (name, table) in TABLES {
        let settings = Settings {
            header_table: Some(table),
            ..Settings::new(Http::H2)
        };
        for tokens in [1, 5, 10, 100] {
            let part = format!("h2.bytes.{name}.tokens{tokens}");
            if !options.wants(&part) {
                continue;
            }
            let bearers: Vec<_> = (0..tokens).map(|_| fixture.bearer()).collect();
            let sessions: Vec<_> = (0..tokens).map(|_| fixture.session_bound()).collect();
            let bearer = bytes_per_request(options, fixture, settings, &bearers, false).await;
            let proof = bytes_per_request(options, fixture, settings, &sessions, false).await;
            let dpop = bytes_per_request(options, fixture, settings, &bearers, true).await;
            figures.record(format!("{part}.bearer"), bearer);
            figures.record(format!("{part}.proof_adds"), proof - bearer);
            figures.record(format!("{part}.dpop_adds"), dpop - bearer);
        }
    }
}

async fn bytes_per_request(
    options: &Options,
    fixture: &Fixture,
    settings: Settings,
    tokens: &[String],
    dpop: bool,
) -> f64 {
    let server = Server::start(&fixture.server(), settings);
    let client = dpop_client(&fixture.client(), settings.http);
    let mut caller = Bowline::with_tokens(client, &server.origin, tokens);
    if dpop {
        caller = caller.by_dpop();
    }
    // The first request of each token costs more, and so do the SETTINGS: they are not counted.
    for _ in 0..tokens.len() {
        caller.call().await;
    }
    let turns = options.pick(2000, 200) / tokens.len();
    let requests = turns.max(1) * tokens.len();
    let before = server.received();
    for _ in 0..requests {
        caller.call().await;
    }
    (server.received() - before) as f64 / requests as f64
}

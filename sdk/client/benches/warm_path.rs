//! What a proof that is known adds to a request: allocations, instructions, bytes. Counted, not
//! timed.
//!
//! `cargo bench -p bowline-client --bench warm_path`; `docs/src/benchmarks.md` says what it means.
//! Instructions need `valgrind`; without it they are left out.

mod common;

use std::alloc::System;
use std::process::{Command, Stdio};

use bowline_client::{Client, DpopKey};
use common::callers::{AnyCaller, Bowline, Caller, Hyper, Reqwest};
use common::child::{Child, ServerProcess};
use common::figures::{Figures, folder, progress};
use common::options::Options;
use common::scene::{Http, Party, Scene};
use common::server::{Server, Settings};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Who sends the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
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

impl Way {
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

/// What a process under valgrind is to do.
#[derive(Serialize, Deserialize)]
struct Job {
    party: Party,
    http: Http,
    origin: String,
    tokens: Tokens,
    way: Way,
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
        return be_called();
    }
    let options = Options::of_command_line();
    let mut figures = Figures::new("warm_path", &options);
    let runtime = common::runtime();
    let scene = runtime.block_on(async { Scene::new() });
    let tokens = Tokens {
        bearer: scene.bearer(),
        session: scene.session_bound(),
    };
    for http in Http::BOTH {
        let server = ServerProcess::start(&scene.server(), Settings::of(http));
        let counted = Counted {
            options: &options,
            figures: &mut figures,
            party: scene.client(),
            tokens: tokens.clone(),
            http,
            origin: server.origin.clone(),
        };
        counted.all();
    }
    runtime.block_on(bytes(&options, &mut figures, &scene));
    figures.write();
}

/// What is counted with one HTTP version.
struct Counted<'a> {
    options: &'a Options,
    figures: &'a mut Figures,
    party: Party,
    tokens: Tokens,
    http: Http,
    origin: String,
}

impl Counted<'_> {
    fn all(mut self) {
        self.each("allocations", |this, way| Some(this.allocations(way)));
        self.each("instructions", Self::instructions);
    }

    /// Counts for each way of sending, and the difference that a proof makes.
    fn each(&mut self, what: &str, count: impl Fn(&Self, Way) -> Option<f64>) {
        let part = format!("{}.{what}", self.http.name());
        let mut found = Vec::new();
        for way in Way::ALL {
            let name = format!("{part}.{}", way.name());
            if !self.options.wants(&name) {
                continue;
            }
            progress(&name);
            let Some(value) = count(self, way) else {
                return;
            };
            self.figures.tell(name, value);
            found.push((way, value));
        }
        let of = |wanted: Way| {
            found
                .iter()
                .find(|(way, _)| *way == wanted)
                .map(|(_, value)| *value)
        };
        let added = [
            ("proof_adds", Way::BowlineProof, Way::BowlineBearer),
            ("proof_adds_to_hyper", Way::HyperProof, Way::HyperBearer),
        ];
        for (name, with, without) in added {
            if let (Some(with), Some(without)) = (of(with), of(without)) {
                self.figures.tell(format!("{part}.{name}"), with - without);
            }
        }
    }

    /// Per call, after some that nobody counts. A reallocation counts as one.
    fn allocations(&self, way: Way) -> f64 {
        const FIRST: u32 = 200;
        let calls = self.options.pick(5000, 500);
        common::one_thread().block_on(async {
            let mut caller = self.job(way, 0).caller().await;
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

    /// Per call: a run with many calls less one with few, so that everything that is done once
    /// cancels out. What does not is chance in the handshakes' cryptography: some 100,000
    /// instructions, shared by all calls.
    fn instructions(&self, way: Way) -> Option<f64> {
        const FEW: u32 = 100;
        let calls = self.options.pick(5000, 500);
        let (few, many) = (self.collected(way, FEW)?, self.collected(way, FEW + calls)?);
        Some((many as f64 - few as f64) / f64::from(calls))
    }

    /// All instructions of a process that calls so many times.
    fn collected(&self, way: Way, calls: u32) -> Option<u64> {
        let mut valgrind = Command::new("valgrind");
        let program = std::env::current_exe().expect("the path of this program");
        // Left there for `callgrind_annotate`.
        let profile = folder().join(format!("{}.{}.callgrind", self.http.name(), way.name()));
        let profile = format!("--callgrind-out-file={}", profile.display());
        valgrind
            .args(["--tool=callgrind", &profile])
            .arg(program)
            .stderr(Stdio::piped());
        std::fs::create_dir_all(folder()).expect("a folder to write to");
        if let Err(error) = Command::new("valgrind").arg("--version").output() {
            progress(format_args!(
                "no valgrind ({error}): instructions are left out"
            ));
            return None;
        }
        let report = Child::under(valgrind, CALLER, &self.job(way, calls)).last_words();
        let line = report
            .lines()
            .find_map(|line| line.split_once("Collected :"));
        let (_, count) = line.unwrap_or_else(|| panic!("valgrind tells no count:\n{report}"));
        Some(count.trim().parse().expect("a number"))
    }

    fn job(&self, way: Way, calls: u32) -> Job {
        Job {
            party: self.party.clone(),
            http: self.http,
            origin: self.origin.clone(),
            tokens: self.tokens.clone(),
            way,
            calls,
        }
    }
}

impl Job {
    async fn caller(&self) -> AnyCaller {
        let Self {
            party,
            http,
            origin,
            ..
        } = self;
        let Tokens { bearer, session } = &self.tokens;
        let client = || party.bowline(*http).build().expect("a client");
        let hyper = async |token, prover| {
            Hyper::connect(&party.tls(*http), *http, origin, token, prover).await
        };
        match self.way {
            Way::HyperBearer => AnyCaller::Hyper(hyper(bearer, None).await),
            Way::HyperProof => AnyCaller::Hyper(hyper(session, Some(party)).await),
            Way::BowlineBearer => AnyCaller::Bowline(Bowline::new(client(), origin, bearer)),
            Way::BowlineProof => AnyCaller::Bowline(Bowline::new(client(), origin, session)),
            Way::BowlineProofByField => {
                AnyCaller::Bowline(Bowline::with_authorization(client(), origin, session))
            }
            Way::BowlineDpop => AnyCaller::Bowline(
                Bowline::new(dpop_client(party, *http), origin, bearer).by_dpop(),
            ),
            Way::Reqwest => AnyCaller::Reqwest(Reqwest::bearer(party, *http, origin, bearer)),
            Way::ReqwestDpop => {
                AnyCaller::Reqwest(Reqwest::dpop(party, *http, origin, bearer, &any_key()))
            }
        }
    }
}

/// Nobody looks at the DPoP proofs here.
fn any_key() -> DpopKey {
    DpopKey::generate().expect("randomness")
}

fn dpop_client(party: &Party, http: Http) -> Client {
    party
        .bowline(http)
        .dpop_key(any_key())
        .build()
        .expect("a client")
}

/// The process under valgrind.
fn be_called() {
    let job: Job = common::child::job();
    common::one_thread().block_on(async {
        let mut caller = job.caller().await;
        for _ in 0..job.calls {
            caller.call().await;
        }
    });
}

/// Bytes that each request takes on the wire, TLS records and all, when the tokens have their
/// turns one after the other.
async fn bytes(options: &Options, figures: &mut Figures, scene: &Scene) {
    const TABLES: [(&str, u32); 2] = [("table4k", 4096), ("table64k", 65_536)];
    let settings = Settings::of(Http::H1);
    if options.wants("h1.bytes") {
        let bearer = request_bound(options, scene, settings, &[scene.bearer()], false).await;
        let proof = request_bound(options, scene, settings, &[scene.session_bound()], false).await;
        let dpop = request_bound(options, scene, settings, &[scene.bearer()], true).await;
        figures.tell("h1.bytes.bearer", bearer);
        figures.tell("h1.bytes.proof_adds", proof - bearer);
        figures.tell("h1.bytes.dpop_adds", dpop - bearer);
    }
    for (name, table) in TABLES {
        let settings = Settings {
            header_table: Some(table),
            ..Settings::of(Http::H2)
        };
        for tokens in [1, 5, 10, 100] {
            let part = format!("h2.bytes.{name}.tokens{tokens}");
            if !options.wants(&part) {
                continue;
            }
            let bearers: Vec<_> = (0..tokens).map(|_| scene.bearer()).collect();
            let sessions: Vec<_> = (0..tokens).map(|_| scene.session_bound()).collect();
            let bearer = request_bound(options, scene, settings, &bearers, false).await;
            let proof = request_bound(options, scene, settings, &sessions, false).await;
            let dpop = request_bound(options, scene, settings, &bearers, true).await;
            figures.tell(format!("{part}.bearer"), bearer);
            figures.tell(format!("{part}.proof_adds"), proof - bearer);
            figures.tell(format!("{part}.dpop_adds"), dpop - bearer);
        }
    }
}

async fn request_bound(
    options: &Options,
    scene: &Scene,
    settings: Settings,
    tokens: &[String],
    dpop: bool,
) -> f64 {
    let server = Server::start(&scene.server(), settings);
    let client = dpop_client(&scene.client(), settings.http);
    let mut caller = Bowline::with_tokens(client, &server.origin, tokens);
    if dpop {
        caller = caller.by_dpop();
    }
    // Each token's first request is on its own account, and so are the SETTINGS.
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

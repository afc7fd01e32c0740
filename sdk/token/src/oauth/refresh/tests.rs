//! Processes that share a seed, and processes that are killed while they replace it. Child processes
//! run the test `child` of this program.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline_http_client::{Client, Identity, Trust};
use bowline_testkit::authority::{Authority, AuthorityOptions, InjectedFault, RefreshTokens};
use bowline_testkit::pki::{KeyKind, Pki};
use rustix::process::{Signal, getpid, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{
    AuthorizationServer, ClientAuthentication, Clock, Error, ErrorKind, OAuth, OAuthErrorCode,
    Token, TokenSource,
};

/// Names the step at which a child process kills itself.
const CRASH_AT: &str = "SEED_CRASH_AT";
const DIRECTORY: &str = "SEED_DIRECTORY";
const ISSUER: &str = "SEED_ISSUER";
const LIFETIME: Duration = Duration::from_secs(60);

pub(super) fn crash_point(step: &str) {
    if std::env::var(CRASH_AT).is_ok_and(|at| at == step) {
        kill_process(getpid(), Signal::KILL).unwrap();
        loop {
            std::thread::park();
        }
    }
}

/// A directory with a seed, a client's certificate, and a clock, which processes share.
struct World {
    directory: PathBuf,
    authority: Authority,
    first: String,
    began: u64,
}

impl World {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("bowline-seed-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let pki = Pki::new();
        let agent = pki.client("agent", KeyKind::P256);
        let options = AuthorityOptions {
            lifetime: LIFETIME,
            ..AuthorityOptions::default()
        };
        let authority = Authority::start(&pki, options);
        let world = Self {
            first: authority.issue_refresh_token("agent", "alice"),
            directory,
            authority,
            began: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        };
        let pem = format!("{}{}", agent.chain_pem(), agent.key_pem());
        fs::write(world.directory.join("identity.pem"), pem).unwrap();
        fs::write(world.directory.join("ca.pem"), pki.ca_pem()).unwrap();
        let seed = serde_json::json!({
            "client_id": "agent",
            "issuer": world.authority.issuer(),
            "refresh_token": world.first,
        });
        world.write_private("seed", &seed.to_string());
        world.set_clock(0);
        world
    }

    fn write_private(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// So many seconds after the test began.
    fn set_clock(&self, seconds: u64) {
        let now = self.began + seconds;
        fs::write(self.directory.join("clock.new"), now.to_string()).unwrap();
        let clock = self.directory.join("clock");
        fs::rename(self.directory.join("clock.new"), clock).unwrap();
    }

    fn source(&self) -> OAuth {
        source(&self.directory, self.authority.issuer())
    }

    /// What is in the seed file is always a whole seed.
    fn stored(&self) -> String {
        let seed = fs::read(self.directory.join("seed")).unwrap();
        let seed: serde_json::Value = serde_json::from_slice(&seed).unwrap();
        seed["refresh_token"].as_str().unwrap().to_owned()
    }

    fn process(&self, crash_at: Option<&str>) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "oauth::refresh::tests::child", "--ignored"])
            .arg("--nocapture")
            .env(DIRECTORY, &self.directory)
            .env(ISSUER, self.authority.issuer())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if let Some(step) = crash_at {
            command.env(CRASH_AT, step);
        }
        let mut child = command.spawn().unwrap();
        Process {
            stdin: child.stdin.take().unwrap(),
            told: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn source(directory: &std::path::Path, issuer: &str) -> OAuth {
    let file = |name: &str| directory.join(name);
    let identity = file("identity.pem");
    let client = Client::builder()
        .identity(Identity::from_pem_files(&identity, &identity).unwrap())
        .trust(Trust::from_pem_file(file("ca.pem")).unwrap())
        .build()
        .unwrap();
    let clock = file("clock");
    let now = move || -> SystemTime {
        let seconds = fs::read_to_string(&clock).unwrap().parse().unwrap();
        UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let server = AuthorizationServer::issuer(issuer);
    OAuth::builder(client, server, ClientAuthentication::tls("agent"))
        .refresh(file("seed"))
        .clock(Clock::from_fn(now))
        .build()
        .unwrap()
}

/// A child process, which asks for a token each time it is told a line.
struct Process {
    child: Child,
    stdin: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn ask(&mut self) {
        self.stdin.write_all(b"ask\n").await.unwrap();
    }

    /// What it said: a name of the token, or an error.
    async fn answer(&mut self) -> String {
        while let Some(line) = self.told.next_line().await.unwrap() {
            if let Some(answer) = line.strip_prefix(ANSWER) {
                return answer.to_owned();
            }
        }
        panic!("the process has ended");
    }
}

const ANSWER: &str = "answer: ";

#[test]
#[ignore = "it is started by other tests"]
#[allow(clippy::print_stdout, reason = "the other tests read it")]
fn child() {
    let (Ok(directory), Ok(issuer)) = (std::env::var(DIRECTORY), std::env::var(ISSUER)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let source = {
        let _inside = runtime.enter();
        source(directory.as_ref(), &issuer)
    };
    // The line begins after the test runner's "test … ... ".
    println!();
    for _ in std::io::stdin().lines() {
        println!("{ANSWER}{}", name(runtime.block_on(source.token())));
    }
}

/// A name that does not tell the token.
fn name(token: Result<Token, Error>) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    match token {
        Ok(token) => {
            let mut hasher = DefaultHasher::new();
            token.access_token().hash().hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        }
        Err(error) => format!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_on_one_seed_share_each_token_and_lose_none() {
    const ROUNDS: u64 = 20;
    let world = World::new("shared");
    let mut processes = [
        world.process(None),
        world.process(None),
        world.process(None),
    ];
    for round in 0..ROUNDS {
        world.set_clock(round * LIFETIME.as_secs());
        for process in &mut processes {
            process.ask().await;
        }
        let mut answers = Vec::new();
        for process in &mut processes {
            answers.push(process.answer().await);
        }
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
        assert_eq!(world.authority.refreshes(), round + 1, "{answers:?}");
        assert!(world.authority.is_live_refresh_token(&world.stored()));
    }
    assert_eq!(world.authority.token_requests(), ROUNDS, "none was refused");
}

/// What the next process finds after one was killed at this step.
enum After {
    /// The refresh token was not sent, or its answer is on disk.
    Goes,
    /// The answer is lost: the window that the documentation states.
    Lost,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_between_answer_and_rename_loses_the_seed_only_before_the_write() {
    for (step, after) in [
        ("reserved", After::Goes),
        ("answered", After::Lost),
        ("written", After::Goes),
        ("synced", After::Goes),
        ("renamed", After::Goes),
    ] {
        for rule in [RefreshTokens::Rotated, RefreshTokens::RotatedWithGrace] {
            let world = World::new(&format!("{step}-{rule:?}"));
            world.authority.set_refresh_tokens(rule);
            let mut process = world.process(Some(step));
            process.ask().await;
            let status = process.child.wait().await.unwrap();
            assert_eq!(status.signal(), Some(9), "{step}: {status}");
            let granted = u64::from(step != "reserved");
            assert_eq!(world.authority.refreshes(), granted, "{step}");
            let is_lost = matches!(after, After::Lost);
            if is_lost && rule == RefreshTokens::Rotated {
                assert_eq!(world.stored(), world.first);
                let error = world.source().token().await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Refused(OAuthErrorCode::InvalidGrant)
                );
                assert!(
                    error.to_string().contains("whose answer was lost"),
                    "{error}"
                );
                continue;
            }
            // The next process goes on, and if the answer is there, without another request.
            world.source().token().await.unwrap();
            let requested = if is_lost || step == "reserved" {
                granted + 1
            } else {
                granted
            };
            assert_eq!(world.authority.refreshes(), requested, "{step}");
            // And the one after that.
            world.set_clock(LIFETIME.as_secs());
            world.source().token().await.unwrap();
            assert!(
                world.authority.is_live_refresh_token(&world.stored()),
                "{step}"
            );
            assert!(!world.directory.join(".seed.next").exists(), "{step}");
        }
    }
}

/// A process that is killed while the server has its request, processed and not answered: the same
/// window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_before_the_answer_leaves_a_seed_that_says_so() {
    let world = World::new("held");
    let mut process = world.process(None);
    process.ask().await;
    process.answer().await;
    world.set_clock(LIFETIME.as_secs());
    world.authority.set_fault(InjectedFault::ResponseHeld);
    process.ask().await;
    world.authority.held(1).await;
    process.child.start_kill().unwrap();
    process.child.wait().await.unwrap();
    world.authority.set_fault(InjectedFault::None);
    let error = world.source().token().await.unwrap_err();
    assert!(
        error.to_string().contains("whose answer was lost"),
        "{error}"
    );
}

/// A seed from a new sign-in is not replaced by what an old process has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_has_left_does_not_replace_a_newer_seed() {
    let world = World::new("newer");
    let mut process = world.process(Some("synced"));
    process.ask().await;
    process.child.wait().await.unwrap();
    assert!(world.directory.join(".seed.next").exists());
    let signed_in = world.authority.issue_refresh_token("agent", "bob");
    let seed = serde_json::json!({
        "client_id": "agent",
        "issuer": world.authority.issuer(),
        "refresh_token": signed_in,
    });
    world.write_private("seed", &seed.to_string());
    world.source().token().await.unwrap();
    assert!(
        !world.authority.is_live_refresh_token(&signed_in),
        "it was used"
    );
    assert!(world.authority.is_live_refresh_token(&world.stored()));
    assert_eq!(world.authority.refreshes(), 2);
}

//! nginx and the ingress, each with mutual TLS in front of the same service.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bowline_testkit::authority::AuthorityOptions;
use bowline_testkit::net::free_port;

use crate::QUIET;
use crate::load::Agent;

/// nginx that answers by itself; nginx and the ingress as proxies.
pub(crate) const CONTENDERS: [&str; 3] = ["direct", "nginx", "ingress"];

/// 100 bytes.
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":4711,"result":{"content":[{"type":"text","text":"0123"}],"isError":false}}    "#;

pub(crate) struct Proxies {
    pub(crate) all: Vec<Proxy>,
    folder: PathBuf,
    service: Running,
}

/// Seconds of processor time: all that there was, used by programs, and by those of this bench.
pub(crate) struct Machine {
    all: f64,
    used: f64,
    own: f64,
}

impl Machine {
    /// The share of it that other programs have had since.
    pub(crate) fn others_share(&self, now: &Self) -> f64 {
        (now.used - self.used - (now.own - self.own)) / (now.all - self.all)
    }
}

/// A contender.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    running: Running,
}

impl Proxies {
    /// The proxies run on core 0, the service on this one.
    pub(crate) async fn start(agent: &Agent, service_core: usize) -> Self {
        let folder = std::env::temp_dir().join(format!("beside-nginx-{}", std::process::id()));
        agent.pki.write_to(&folder, &[]).expect("files");
        let server = agent.pki.localhost().write_to(&folder).expect("files");
        std::fs::rename(server.certificate, folder.join("server.pem")).expect("a file");
        std::fs::rename(server.key, folder.join("server.key")).expect("a file");
        let jwks = agent.authority.jwks().to_string();
        std::fs::write(folder.join("jwks.json"), jwks).expect("a file");

        let socket = folder.join("service.sock");
        let service = format!("listen unix:{};\n{}", socket.display(), answering());
        let service = nginx(&folder, "service", &service, service_core);
        wait_for(|| socket.exists());

        let all = CONTENDERS.map(|name| {
            let port = free_port();
            let running = match name {
                "ingress" => ingress(&folder, port, agent.authority.issuer()),
                "direct" => nginx(&folder, name, &(tls(&folder, port) + &answering()), 0),
                _ => nginx(&folder, name, &(tls(&folder, port) + PASSING_ON), 0),
            };
            wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
            Proxy {
                name,
                port,
                running,
            }
        });
        Self {
            all: all.into(),
            folder,
            service,
        }
    }

    /// What the machine has done so far.
    pub(crate) fn machine(&self) -> Machine {
        let stat = std::fs::read_to_string("/proc/stat").expect("Linux");
        let all = stat.lines().next().expect("a line").split_whitespace();
        // Ticks of 10 ms: user, nice, system, idle, iowait, irq, softirq, steal.
        let ticks: Vec<u64> = all.skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        let seconds = |ticks: u64| ticks as f64 / 100.0;
        // Of interrupts nobody can tell for whom they are.
        let used = seconds(ticks[0] + ticks[1] + ticks[2] + ticks[7]);
        let own = self.all.iter().map(Proxy::processor_time);
        let service = processor_time(self.service.0.id());
        let own: Duration = own
            .chain([service, processor_time(std::process::id())])
            .sum();
        Machine {
            all: seconds(ticks.iter().sum()),
            used,
            own: own.as_secs_f64(),
        }
    }

    /// Waits until other programs leave the machine alone; fails after half an hour.
    pub(crate) async fn wait_until_quiet(&self) {
        let started = Instant::now();
        loop {
            let before = self.machine();
            tokio::time::sleep(Duration::from_millis(500)).await;
            if before.others_share(&self.machine()) <= QUIET {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(1800),
                "this machine does other work all the time: run it when it is idle"
            );
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }

    /// Fails unless the ingress verified each request, but for those of `load::assert_alike`.
    pub(crate) fn assert_verified(&self) {
        let log = std::fs::read_to_string(self.folder.join("ingress.log")).expect("a log");
        let requests = log.lines().filter(|line| line.contains("request method="));
        let without = requests.filter(|line| !line.contains(" class=session "));
        assert_eq!(without.count(), 2, "requests without a verified proof");
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Proxy {
    /// Of all its threads, as the kernel's scheduler counts it.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.running.0.id())
    }
}

fn processor_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let time = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(time).sum())
}

/// A process, which ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn pin_this_process(core: usize) {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &id])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.expect("taskset runs").success());
}

fn pinned(core: usize, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string(), program]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn log(folder: &Path, name: &str) -> File {
    File::create(folder.join(format!("{name}.log"))).expect("a log")
}

/// One process, with one thread.
fn nginx(folder: &Path, name: &str, server: &str, core: usize) -> Running {
    let own = folder.join(name);
    std::fs::create_dir(&own).expect("a folder");
    let at = own.display();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr warn;
        events {{ worker_connections 1024; }}
        http {{
            access_log {at}/access.log;
            client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/f;
            uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
            keepalive_requests 1000000000;
            upstream service {{
                server unix:{}/service.sock; keepalive 64; keepalive_requests 1000000000;
            }}
            server {{ {server} }}
        }}",
        folder.display()
    );
    let file = own.join("nginx.conf");
    std::fs::write(&file, configuration).expect("a file");
    let child = pinned(core, "nginx")
        .args(["-e", "stderr", "-c"])
        .arg(file)
        .stderr(log(folder, name))
        .spawn()
        .expect("taskset runs");
    Running(child)
}

fn tls(folder: &Path, port: u16) -> String {
    let at = folder.display();
    format!(
        "listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;
        ssl_client_certificate {at}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;"
    )
}

/// As the ingress does: kept connections, and `Host` as it came.
const PASSING_ON: &str = "location / {
    proxy_pass http://service; proxy_http_version 1.1;
    proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
}";

fn answering() -> String {
    format!("default_type application/json; location / {{ return 200 '{ANSWER}'; }}")
}

fn ingress(folder: &Path, port: u16, issuer: &str) -> Running {
    let file = |name: &str| folder.join(name);
    let child = pinned(0, env!("CARGO_BIN_EXE_bowline"))
        .args(["ingress", "--listen", &format!("127.0.0.1:{port}")])
        .arg("--cert")
        .arg(file("server.pem"))
        .arg("--key")
        .arg(file("server.key"))
        .arg("--client-ca")
        .arg(file("ca.pem"))
        .arg("--upstream")
        .arg(format!("unix:{}", file("service.sock").display()))
        .arg("--jwks")
        .arg(file("jwks.json"))
        .args(["--issuer", issuer])
        .args(["--audience", &AuthorityOptions::default().audience])
        .stderr(log(folder, "ingress"))
        .spawn()
        .expect("taskset runs");
    Running(child)
}

fn wait_for(is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it does not start: is nginx installed? its log is beside its configuration"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

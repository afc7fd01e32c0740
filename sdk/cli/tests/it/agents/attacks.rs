//! Who else could use the proxy, or take its place.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};

use super::{Running, Service, World, stderr};

const URL: &str = "RESTLESS_URL";
const TOKEN: &str = "RESTLESS_TOKEN";
/// Only ends tests that hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name that a page was loaded from leads to loopback by now (DNS rebinding): its requests
/// reach the listener, and their `Host` is the page's.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_name_was_rebound_to_loopback_gets_421() {
    const PAGE: &str = "rebound.example";
    let world = World::new("attack-page");
    let origin = world.server.origin();
    let service = Service::on_port(&mut world.egress(&["--upstream", &origin])).await;
    let running = Running::start(&mut world.run(&[])).await;
    for proxy in [&service.address, &running.proxy] {
        let proxy: SocketAddr = proxy.parse().expect("an address");
        let page = reqwest::Client::builder()
            .no_proxy()
            .resolve(PAGE, proxy)
            .build()
            .expect("a client");
        let port = proxy.port();
        for host in [format!("{PAGE}:{port}"), format!("{PAGE}.:{port}")] {
            let request = page
                .post(format!("http://{PAGE}:{port}/"))
                .header("origin", format!("http://{PAGE}:{port}"))
                .header("host", &host)
                .body("from a page");
            let response = request.send().await.expect("a response");
            assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{host}");
            assert!(
                !response
                    .headers()
                    .contains_key("access-control-allow-origin")
            );
        }
    }
    assert_eq!(world.server.counts().requests, 0);
    // By its own name the service is there.
    let own = format!("http://{}/", service.address);
    let direct = reqwest::Client::builder().no_proxy().build();
    let response = direct.expect("a client").get(own).send().await;
    assert_eq!(response.expect("a response").status(), StatusCode::OK);
    assert_eq!(world.server.counts().requests, 1);
    running.end().await;
}

/// An agent that never stops, whatever becomes of its requests.
#[tokio::test]
#[ignore = "it is started by other tests"]
async fn restless() {
    let (Ok(url), Ok(token)) = (std::env::var(URL), std::env::var(TOKEN)) else {
        return;
    };
    loop {
        let client = reqwest::Client::builder().build().expect("a client");
        let _ = client.get(&url).bearer_auth(&token).send().await;
    }
}

/// The keeper is stopped before the proxy is killed, so that there is all the time in the world
/// between the two: the port is not free before the command and all below it are gone.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_the_port_of_a_killed_proxy_hears_nothing() {
    let world = World::new("attack-port");
    let program = std::env::current_exe().expect("this program");
    let pids = world.scratch.0.join("pids");
    let script = format!(
        "{} --exact agents::attacks::restless --ignored > /dev/null 2>&1 & restless=$!\n\
         setsid sleep 1000 > /dev/null 2>&1 & echo $PPID $$ $restless $! > {}",
        program.display(),
        pids.display(),
    );
    let mut command = world.run(&[]);
    command
        .env(URL, world.server.origin())
        .env(TOKEN, world.token());
    let mut running = Running::start_script(&mut command, &script).await;
    until(|| world.server.counts().requests > 3).await;
    let pids = fs::read_to_string(pids).expect("it was written");
    let pids: Vec<i32> = pids
        .split_whitespace()
        .map(|pid| pid.parse().expect("a process id"))
        .collect();
    let [keeper, command @ ..] = &*pids else {
        panic!("{pids:?}")
    };
    let keeper = Pid::from_raw(*keeper).expect("a process id");
    let proxy: SocketAddr = running.proxy.parse().expect("an address");

    kill_process(keeper, Signal::STOP).expect("a signal");
    until(|| is_stopped(pids[0])).await;
    running.kill_run().await;
    assert!(command.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    for _ in 0..100 {
        let taken = TcpListener::bind(proxy).map(drop);
        let error = taken.expect_err("the port is free while the command lives");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    kill_process(keeper, Signal::CONT).expect("a signal");
    let started = Instant::now();
    let taker = loop {
        match TcpListener::bind(proxy) {
            Ok(taker) => break taker,
            Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
        }
        assert!(started.elapsed() < PATIENCE, "the port is never free");
        tokio::task::yield_now().await;
    };
    assert!(!command.iter().any(|pid| is_alive(*pid)), "{pids:?}");
    taker.set_nonblocking(true).expect("a socket");
    let heard = taker.accept().map(drop).expect_err("something is heard");
    assert_eq!(heard.kind(), ErrorKind::WouldBlock);
    running.gone().await;
}

/// What the command leaves behind heeds no SIGTERM, so that it lives on for a while.
#[tokio::test(flavor = "multi_thread")]
async fn the_port_stays_taken_while_anything_that_the_command_left_is_alive() {
    let world = World::new("attack-left-behind");
    let left = world.scratch.0.join("left");
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo $$ > {}; while :; do sleep 0.01; done' > /dev/null 2>&1 &\n\
         while ! [ -s {0} ]; do sleep 0.01; done",
        left.display()
    );
    let running = Running::start_script(&mut world.run(&[]), &script).await;
    let left = fs::read_to_string(left).expect("it was written");
    let left: i32 = left.trim().parse().expect("a process id");
    let proxy: SocketAddr = running.proxy.parse().expect("an address");
    let ended = tokio::spawn(running.end());
    let started = Instant::now();
    while TcpListener::bind(proxy).is_err() {
        assert!(started.elapsed() < PATIENCE, "the port is never free");
        tokio::task::yield_now().await;
    }
    assert!(!is_alive(left), "the port is free before");
    ended.await.expect("it ends");
}

/// The gap: what has nobody above it any more. With the keeper killed the proxy ends the command;
/// with both killed at once nobody does.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_keeper_ends_the_command_and_with_both_killed_it_is_left() {
    for both in [false, true] {
        let world = World::new(&format!("attack-keeper-{both}"));
        let pids = world.scratch.0.join("pids");
        let script = format!("echo $PPID $$ > {}", pids.display());
        let mut running = Running::start_script(&mut world.run(&[]), &script).await;
        let pids = fs::read_to_string(pids).expect("it was written");
        let (keeper, command) = pids.trim().split_once(' ').expect("two");
        let [keeper, command] = [keeper, command].map(|pid| pid.parse::<i32>().expect("an id"));
        let kill = |pid: i32, signal| kill_process(Pid::from_raw(pid).expect("an id"), signal);
        kill(running.id(), Signal::STOP).expect("a signal");
        until(|| is_stopped(running.id())).await;
        kill(keeper, Signal::KILL).expect("a signal");
        until(|| !is_alive(keeper)).await;
        assert!(is_alive(command));
        if both {
            running.kill_run().await;
            assert!(
                is_alive(command),
                "this gap is closed: say so in any-agent.md"
            );
            kill(command, Signal::KILL).expect("a signal");
        } else {
            kill(running.id(), Signal::CONT).expect("a signal");
        }
        until(|| !is_alive(command)).await;
        running.gone().await;
    }
}

/// A run that was killed may have had another environment than the next one.
#[tokio::test]
async fn what_a_killed_run_left_goes_at_the_next_start_in_either_place() {
    let world = World::new("attack-left");
    let runtime = world.scratch.0.join("runtime");
    fs::create_dir(&runtime).expect("a directory");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&runtime, private).expect("its mode");
    // Without a runtime directory of its own it was in the temporary one.
    let mut command = world.run(&[]);
    command
        .env_remove("XDG_RUNTIME_DIR")
        .env("TMPDIR", &world.scratch.0);
    Running::start(&mut command).await.kill().await;
    let left = world.private_directories();
    assert_eq!(left.len(), 1, "left by SIGKILL");
    assert!(left[0].join("ssl-cert-file.pem").exists());
    let mut next = world.run(&[]);
    next.env("XDG_RUNTIME_DIR", &runtime)
        .env("TMPDIR", &world.scratch.0);
    let next = next.arg("true").output().await.expect("the command runs");
    assert!(next.status.success(), "{next:?}");
    assert_eq!(world.private_directories().len(), 0);
    assert_eq!(fs::read_dir(&runtime).expect("a directory").count(), 0);
}

/// Other processes of the same user, which have not got the command's variables.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_credential_only_who_was_given_the_url_is_served() {
    let world = World::new("attack-credential");
    let running = Running::start(&mut world.run(&["--credential"])).await;
    let (_, password) = running.url.split_once("bowline:").expect("a user");
    let password = password.split('@').next().expect("a password").to_owned();
    assert_eq!(password.len(), 43, "256 bits");
    let host = world
        .server
        .origin()
        .trim_start_matches("https://")
        .to_owned();
    for target in [format!("GET http://{host}/"), format!("CONNECT {host}")] {
        for shown in ["", "Proxy-Authorization: Basic Ym93bGluZTo=\r\n"] {
            let request =
                format!("{target} HTTP/1.1\r\nHost: {host}\r\n{shown}Connection: close\r\n\r\n");
            let answer = running.say(&request).await;
            assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
            assert!(answer.contains("proxy-authenticate: Basic "), "{answer}");
        }
    }
    assert_eq!(world.server.counts().requests, 0);
    // Nor is it where other users could see it.
    let line = fs::read_to_string(format!("/proc/{}/cmdline", running.id()));
    assert!(!line.expect("it runs").contains(&password));
    let url = reqwest::Proxy::all(&running.url).expect("a URL");
    let root = reqwest::Certificate::from_pem(&fs::read(&running.root).expect("a file"));
    let agent = reqwest::Client::builder()
        .proxy(url)
        .tls_certs_merge([root.expect("PEM")])
        .build()
        .expect("a client");
    let answer = agent
        .get(world.server.origin())
        .bearer_auth(world.token())
        .send();
    let answer = answer.await.expect("a response");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("x-got-proxy-authorization"));
    let told = running.end().await;
    assert!(
        told.contains("1 signatures (first 1); 0 tunnels without a proof, 4 requests"),
        "{told}"
    );
    assert!(!told.contains(&password), "{told}");

    let output = world.run(&["--credential", "--java"]).arg("true").output();
    let output = output.await.expect("the command runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("leave --java or --credential away"),
        "{output:?}"
    );
}

/// Whether there is such a process, and no zombie.
fn is_alive(pid: i32) -> bool {
    let state = state(&Path::new("/proc").join(pid.to_string()));
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// All of its threads: one after the other stops.
fn is_stopped(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it is there");
    let mut threads = threads.map(|thread| state(&thread.expect("a thread").path()));
    threads.all(|state| state.as_deref() == Some("T"))
}

/// The state of a process or thread, `None` if it is gone.
fn state(folder: &Path) -> Option<String> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
    rest.split_whitespace().next().map(str::to_owned)
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("it never holds");
}

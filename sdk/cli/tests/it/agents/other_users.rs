//! Other users of this machine, and what a command can do to the proxy of its own user. Both need
//! two users, and so root.

#![allow(clippy::print_stdout, reason = "what can be done is there to be read")]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::{Running, Service, World, stderr};

/// Users without a name and without a file. Not 65534, as which foreign users are shown.
const USER: u32 = 65_533;
const STRANGER: u32 = 65_532;

fn assert_root() {
    let own = rustix::process::geteuid();
    assert!(
        own.is_root(),
        "run `just parts` as root: two more users are needed"
    );
}

async fn curl(uid: u32, arguments: &[&str]) -> Output {
    let mut command = as_user("curl", uid);
    command.args([
        "-sS",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    ]);
    // What the test itself goes through is not meant here.
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "NO_PROXY",
        "no_proxy",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .output()
        .await
        .expect("curl is missing")
}

/// A command as another user.
fn as_user(program: &str, uid: u32) -> Command {
    let mut command = Command::new(program);
    command.uid(uid).gid(uid).stdin(Stdio::null());
    command
}

/// What the egress says of a caller that it cut off.
const CLOSED: &str = "a connection of another user was closed";

#[track_caller]
fn assert_cut_off(output: &Output) {
    // 7, 55, 56: reset at once, in the request, or before an answer; 52: no answer.
    let code = output.status.code();
    assert!(matches!(code, Some(7 | 52 | 55 | 56)), "{output:?}");
    assert_eq!(output.stdout, b"000", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and curl: run `just parts`"]
async fn another_user_is_cut_off_at_the_port() {
    assert_root();
    let world = World::new("users-port");
    let mut command = world.run(&[]);
    let running = Running::start(command.env("BOWLINE_LOG_LEVEL", "warn")).await;
    let origin = world.server.origin();
    let absolute = origin.replace("https://", "http://");
    let proxy = format!("http://{}", running.proxy);
    // `-k`: another user cannot read the authority's certificate either.
    for target in [&*absolute, &*origin] {
        let arguments = ["-k", "--noproxy", "", "--proxy", &proxy, target];
        assert_cut_off(&curl(USER, &arguments).await);
        assert_eq!(curl(0, &arguments).await.stdout, b"200", "{target}");
    }
    assert_eq!(world.server.counts().requests, 2, "those of the own user");
    let told = running.end().await;
    assert_eq!(told.matches(CLOSED).count(), 2, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and curl: run `just parts`"]
async fn another_user_is_cut_off_at_the_socket_even_where_its_mode_lets_all_in() {
    assert_root();
    let world = World::new("users-socket");
    let socket = world.scratch.0.join("egress.sock").display().to_string();
    let listen = format!("unix:{socket}");
    let mut command = world.egress(&["--upstream", &world.server.origin(), "--listen", &listen]);
    let service = Service::start(command.env("BOWLINE_LOG_LEVEL", "warn")).await;
    let arguments = ["--unix-socket", &*socket, "http://localhost/"];
    // As it is made, others cannot even connect.
    assert_eq!(curl(USER, &arguments).await.status.code(), Some(7));
    for path in [Path::new(&socket), &world.scratch.0] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("its mode");
    }
    assert_cut_off(&curl(USER, &arguments).await);
    service.logs(CLOSED, 1).await;
    assert_eq!(world.server.counts().requests, 0);
    assert_eq!(curl(0, &arguments).await.stdout, b"200");
    assert_eq!(world.server.counts().requests, 1);
}

/// The egress has a user of its own then, whose files the agents cannot read (R4).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and curl: run `just parts`"]
async fn the_users_that_are_named_are_served_and_nobody_else_not_even_the_own_one() {
    assert_root();
    let world = World::new("users-named");
    let origin = world.server.origin();
    let socket = world.scratch.0.join("egress.sock").display().to_string();
    fs::set_permissions(&world.scratch.0, fs::Permissions::from_mode(0o755)).expect("its mode");
    let named = format!("uid:{USER}");
    for (number, listen) in ["127.0.0.1:0", &format!("unix:{socket}")]
        .into_iter()
        .enumerate()
    {
        let arguments = [
            "--upstream",
            &*origin,
            "--listen",
            listen,
            "--callers",
            &named,
        ];
        let mut command = world.egress(&arguments);
        let service = Service::start(command.env("BOWLINE_LOG_LEVEL", "warn")).await;
        let said = format!("for processes of {named}: each of them");
        assert!(service.log().contains(&said), "{}", service.log());
        let url = format!("http://{}/", service.address);
        let arguments = match number {
            0 => vec!["--noproxy", "*", &*url],
            _ => vec!["--unix-socket", &*socket, "http://localhost/"],
        };
        assert_eq!(curl(USER, &arguments).await.stdout, b"200", "{listen}");
        assert_cut_off(&curl(STRANGER, &arguments).await);
        assert_cut_off(&curl(0, &arguments).await);
        service.logs(CLOSED, 2).await;
        service.end().await;
        assert_eq!(world.server.counts().requests, number as u64 + 1);
    }
}

/// What was tried, and whether it went.
const TRIED: &str = r#"
ls -l /proc/$$/fd > "$XDG_RUNTIME_DIR/seen"
may() {
    if eval "$2" > /dev/null 2>&1; then echo "$1: yes"; else echo "$1: no"; fi
}
keeper=$PPID
run=$(sed 's/.*) //' /proc/$keeper/stat | cut -d ' ' -f 2)
sleep 1000 &
own=$!
for name in own keeper run; do
    eval pid=\$$name
    may "memory of $name" "true < /proc/$pid/mem"
    may "variables of $name" "true < /proc/$pid/environ"
    may "descriptors of $name" "ls /proc/$pid/fd"
    may "addresses of $name" "true < /proc/$pid/maps"
done
may "the key's file" "cat '$KEY'"
may "the name of the key's file in the arguments of run" "tr '\0' '\n' < /proc/$run/cmdline | grep -F '$KEY'"
may "that name in the arguments of keeper" "tr '\0' '\n' < /proc/$keeper/cmdline | grep -F '$KEY'"
unset KEY
echo "variables with that name, or of bowline: $(env | grep -c -e agent-key -e BOWLINE)"
echo "descriptors beside those that it would have without bowline: $(($(grep -c -e '->' "$XDG_RUNTIME_DIR/seen") - BEFORE))"
kill $own
echo $run
"#;

const EXPECTED: &str = "\
memory of own: yes
variables of own: yes
descriptors of own: yes
addresses of own: yes
memory of keeper: no
variables of keeper: no
descriptors of keeper: no
addresses of keeper: no
memory of run: no
variables of run: no
descriptors of run: no
addresses of run: no
the key's file: yes
the name of the key's file in the arguments of run: yes
that name in the arguments of keeper: no
variables with that name, or of bowline: 0
descriptors beside those that it would have without bowline: 0
";

/// R4. The program is run as an unprivileged user, since root may do everything.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, to run as another user: run `just parts`"]
async fn what_a_command_of_the_same_user_can_do() {
    assert_root();
    let world = World::new("users-same");
    let folder = &world.scratch.0;
    let program = folder.join("bowline");
    fs::copy(env!("CARGO_BIN_EXE_bowline"), &program).expect("a copy");
    for entry in fs::read_dir(folder).expect("the directory") {
        chown(entry.expect("an entry").path(), Some(USER), Some(USER)).expect("its owner");
    }
    chown(folder, Some(USER), Some(USER)).expect("its owner");
    let file = |name: &str| folder.join(name).display().to_string();
    // This process may have inherited some itself.
    let listed = folder.join("listed");
    let list = format!("ls -l /proc/$$/fd > {}", listed.display());
    let ended = as_user("sh", USER).args(["-c", &list]).status().await;
    assert!(ended.expect("sh runs").success());
    let before = fs::read_to_string(listed).expect("it was written");
    let before = before.matches("->").count();
    let script = format!("{TRIED}\necho \"$HTTPS_PROXY\"\ncat > /dev/null");
    let mut child = as_user(&program.display().to_string(), USER)
        .args(["run", "--allow", &world.server.origin()])
        .args([
            "--cert",
            &file("agent.pem"),
            "--key",
            &file("agent-key.pem"),
        ])
        .args(["--cacert", &file("ca.pem"), "--", "sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("XDG_RUNTIME_DIR", folder)
        .env("BOWLINE_LOG_LEVEL", "off")
        .env("KEY", file("agent-key.pem"))
        .env("BEFORE", before.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the command runs");
    let stdin = child.stdin.take();
    let mut lines = {
        use tokio::io::{AsyncBufReadExt, BufReader};
        BufReader::new(child.stdout.take().expect("a pipe")).lines()
    };
    let mut told = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let is_last = line.starts_with("http://");
        told.push(line);
        if is_last {
            break;
        }
    }
    let [tried @ .., run, _proxy] = &*told else {
        panic!("it ended early: {told:?}")
    };
    let tried = tried.join("\n") + "\n";
    println!("{tried}");
    assert_eq!(tried, EXPECTED);

    // Root may, and so may it read the authority's key there.
    File::open(format!("/proc/{run}/mem")).expect("root may read it");
    // Other users: neither memory nor variables, nor the directory; the arguments hold no secret.
    let script = format!(
        "for file in mem environ maps; do true < /proc/{run}/$file && echo $file; done
         for folder in /proc/{run}/fd {folder}/bowline-run-*; do ls $folder && echo $folder; done
         cat /proc/{run}/cmdline",
        folder = folder.display(),
    );
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("its mode");
    let seen = as_user("sh", STRANGER).args(["-c", &script]).output();
    let seen = seen.await.expect("sh runs").stdout;
    let seen = String::from_utf8_lossy(&seen);
    assert!(
        seen.starts_with("./bowline\0run\0") || seen.contains("/bowline\0run\0"),
        "{seen}"
    );
    for never in [
        "mem\n",
        "environ\n",
        "maps\n",
        "/fd\n",
        "bowline-run-",
        "PRIVATE",
    ] {
        assert!(!seen.contains(never), "{never}: {seen}");
    }
    assert_eq!(world.private_directories().len(), 1);
    drop(stdin);
    assert!(child.wait().await.expect("it ends").success());
    assert_eq!(world.private_directories().len(), 0);
}

/// As the entry point of a container: it adopts what nobody waits for, and ends it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for a PID namespace: run `just parts`"]
async fn run_as_the_first_process_of_a_pid_namespace() {
    assert_root();
    let world = World::new("users-container");
    let run = world.run(&[]);
    let run = run.as_std();
    let script = "echo $(cat /proc/1/comm) $PPID; (setsid sleep 1000 &); exit 4";
    let mut command = Command::new("unshare");
    command
        .args(["--fork", "--kill-child", "--pid", "--mount-proc"])
        .arg(run.get_program())
        .args(run.get_args())
        .args(["sh", "-c", script])
        .envs(
            run.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .kill_on_drop(true);
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let first = String::from_utf8_lossy(&output.stdout);
    assert!(first.starts_with("bowline "), "{first}");
    assert_ne!(first.trim(), "bowline 1", "the keeper is between");
    assert_eq!(world.private_directories().len(), 0);
}

/// Runs its arguments where the kernel has no `AF_NETLINK` (seccomp(2), `RestrictAddressFamilies` of
/// systemd).
const WITHOUT_NETLINK: &str = r#"
import ctypes, os, platform, struct, sys
socket = {"x86_64": 41, "aarch64": 198}[platform.machine()]
LOAD, EQUAL, RETURN, NETLINK, EAFNOSUPPORT = 0x20, 0x15, 0x06, 16, 97
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in [
    (LOAD, 0, 0, 0), (EQUAL, 0, 3, socket), (LOAD, 0, 0, 16), (EQUAL, 0, 1, NETLINK),
    (RETURN, 0, 0, 0x50000 | EAFNOSUPPORT), (RETURN, 0, 0, 0x7fff0000)]))
libc = ctypes.CDLL(None, use_errno=True)
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 6, ctypes.addressof(program)))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
"#;

/// `command` in a `/proc` of processes alone, as some containers have it: it holds no table of sockets.
/// `before` are a command and its arguments, of which all else are more.
fn without_table(world: &World, before: &[&str], command: &Command, more: &[&str]) -> Command {
    let command = command.as_std();
    let script = "mount -t proc -o subset=pid proc /proc && exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer
        .args(["--fork", "--kill-child", "--pid", "--mount"])
        .args(["sh", "-c", script, "sh"])
        .args(before)
        .arg(command.get_program())
        .args(command.get_args())
        .args(more)
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("ORIGIN", world.server.origin())
        .kill_on_drop(true);
    outer
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for namespaces, and curl: run `just parts`"]
async fn where_there_is_no_table_the_kernel_may_tell_of_single_sockets() {
    assert_root();
    let world = World::new("users-single");
    let script = r#"
        ! [ -e /proc/net/tcp ] || exit 9
        curl -sS -o /dev/null -w '%{http_code} ' "$ORIGIN"
        setpriv --reuid 65533 --clear-groups curl -sS -o /dev/null -w '%{http_connect} ' --proxy "$HTTPS_PROXY" "$ORIGIN"
        echo "$HTTPS_PROXY""#;
    let command = without_table(&world, &[], &world.run(&[]), &["sh", "-c", script]);
    let output = ended(command).await;
    let told = String::from_utf8_lossy(&output.stdout);
    // No password is needed, and another user is cut off.
    assert!(told.starts_with("200 000 http://127.0.0.1:"), "{output:?}");
    assert_eq!(world.server.counts().requests, 1);

    let origin = world.server.origin();
    let service = ["--allow", &origin, "--listen", "127.0.0.1:0", "--check"];
    let command = without_table(&world, &[], &world.bowline("egress"), &service);
    let output = ended(command).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, for namespaces, Python and curl: run `just parts`"]
async fn where_the_kernel_does_not_say_whose_a_connection_is_a_password_is_needed() {
    assert_root();
    let world = World::new("users-unknown");
    let in_namespace = |command: &Command, more: &[&str]| {
        let before = ["python3", "-c", WITHOUT_NETLINK];
        without_table(&world, &before, command, more)
    };
    let script = r#"
        ! [ -e /proc/net/tcp ] || exit 9
        curl -sS -o /dev/null -w '%{http_code} ' "$ORIGIN"
        curl -sS -o /dev/null -w '%{http_connect} ' --proxy "http://${HTTPS_PROXY##*@}" "$ORIGIN"
        echo "$HTTPS_PROXY""#;
    let output = ended(in_namespace(&world.run(&[]), &["sh", "-c", script])).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.starts_with("200 407 http://bowline:"), "{output:?}");
    assert_eq!(world.server.counts().requests, 1);

    let origin = world.server.origin();
    let service = ["--allow", &origin, "--listen", "127.0.0.1:0"];
    let output = ended(in_namespace(&world.bowline("egress"), &service)).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("use --listen unix:PATH"),
        "{output:?}"
    );
}

/// Until all that held its pipes is gone.
async fn ended(mut command: Command) -> Output {
    // Only ends tests that hang.
    let patience = std::time::Duration::from_secs(60);
    let output = tokio::time::timeout(patience, command.output()).await;
    output.expect("all ended").expect("unshare is missing")
}

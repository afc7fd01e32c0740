//! A real HAProxy in TCP mode in front of one server or several: TLS passes through it end to end,
//! and it ends sessions on command.
//!
//! For the named set: the program `haproxy` must be installed.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take to start.
const START_TIME: Duration = Duration::from_secs(10);

/// A running HAProxy on a loopback port of its own. Dropping it ends it, and the sessions through
/// it.
#[derive(Debug)]
pub struct HaProxy {
    addr: SocketAddr,
    folder: PathBuf,
    servers: usize,
    process: Child,
}

impl HaProxy {
    /// Starts one that passes each TCP connection on to `server`, and waits until it accepts
    /// connections.
    ///
    /// # Panics
    /// If there is no program `haproxy`, or it does not start within 10 s.
    #[must_use]
    pub fn in_front_of(server: SocketAddr) -> Self {
        Self::in_front_of_all(&[server])
    }

    /// The same for several servers in turn. One that refuses a connection is passed over.
    ///
    /// # Panics
    /// As [`in_front_of`](Self::in_front_of).
    #[must_use]
    pub fn in_front_of_all(servers: &[SocketAddr]) -> Self {
        let folder = folder();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let addr = listener.local_addr().expect("a bound socket");
        fs::write(folder.join("haproxy.cfg"), configuration(&folder, servers))
            .expect("a temporary file");
        let process = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(folder.join("haproxy.cfg"))
            // It inherits the socket: a port that is only free for a moment may be taken by others. With
            // `-q` it would not, but open /dev/null in its place.
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .spawn()
            .expect("the program `haproxy`: apt-get install haproxy");
        let mut proxy = Self {
            addr,
            folder,
            servers: servers.len(),
            process,
        };
        proxy.wait();
        proxy
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The origin `https://localhost:<port>`.
    #[must_use]
    pub fn origin(&self) -> String {
        crate::net::origin(self.addr)
    }

    /// Ends every session through it (`shutdown sessions server`), as it does by itself when
    /// `on-marked-down shutdown-sessions` is set and a health check fails. It still accepts new
    /// ones.
    ///
    /// # Panics
    /// If it is no longer running.
    pub fn cut_all(&self) {
        for number in 0..self.servers {
            let answer = self
                .command(&format!("shutdown sessions server agents/agent{number}"))
                .expect("HAProxy's answer");
            assert_eq!(answer.trim(), "", "HAProxy accepts the command");
        }
    }

    /// HAProxy binds all its sockets before it serves any, so if this one answers, the others
    /// accept.
    fn wait(&mut self) {
        let started = Instant::now();
        while self.command("show info").is_err() {
            let ended = self.process.try_wait().expect("a child process");
            assert!(ended.is_none(), "HAProxy ended: {ended:?}");
            assert!(
                started.elapsed() < START_TIME,
                "HAProxy did not start within {START_TIME:?}"
            );
            sleep(Duration::from_millis(5));
        }
    }

    fn command(&self, command: &str) -> std::io::Result<String> {
        let mut socket = UnixStream::connect(socket(&self.folder))?;
        socket.set_read_timeout(Some(START_TIME))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(folder: &Path, servers: &[SocketAddr]) -> String {
    let socket = socket(folder);
    let servers: String = servers
        .iter()
        .enumerate()
        .map(|(number, server)| format!("\x20 server agent{number} {server}\n"))
        .collect();
    format!(
        "global\n\
         \x20 stats socket {socket} mode 600 level admin\n\
         defaults\n\
         \x20 mode tcp\n\
         \x20 timeout connect 5s\n\
         \x20 timeout client 1h\n\
         \x20 timeout server 1h\n\
         \x20 retries 10\n\
         \x20 option redispatch 1\n\
         frontend clients\n\
         \x20 bind fd@0\n\
         \x20 default_backend agents\n\
         backend agents\n\
         {servers}",
        socket = socket.display(),
    )
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

/// A temporary folder that only this user can read.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("bowline-haproxy-{}-{number}", std::process::id()));
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .expect("a temporary folder");
    folder
}

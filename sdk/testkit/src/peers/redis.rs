//! A real Redis, which is stopped, killed and started again on command.
//!
//! For the named set: the program `redis-server` must be installed.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long it may take to start, to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running Redis, on a Unix socket in a folder of its own. Dropping it ends it, and its data goes.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    options: Vec<String>,
    process: Child,
}

impl Redis {
    /// Starts one without a port and without persistence, with these options of `redis-server`
    /// (`--requirepass`, `sesame`), which come last and so prevail. Waits until it answers.
    ///
    /// # Panics
    /// If there is no program `redis-server`, or it does not answer within 20 s.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        let folder = folder();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = spawn(&folder, &options);
        let mut redis = Self {
            folder,
            options,
            process,
        };
        redis.wait();
        redis
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.folder)
    }

    /// Its folder, where it keeps its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `unix:PATH`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Sends one command, and returns the first line of the answer with its mark (`+OK`, `:1`, `-ERR …`), or a
    /// string's content.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn command(&self, command: &[&str]) -> String {
        self.commands(&[command]).pop().expect("an answer")
    }

    /// The same, several on one connection.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn commands(&self, commands: &[&[&str]]) -> Vec<String> {
        self.try_commands(commands).expect("an answer of Redis")
    }

    fn try_commands(&self, commands: &[&[&str]]) -> std::io::Result<Vec<String>> {
        let mut stream = BufReader::new(UnixStream::connect(self.socket())?);
        stream.get_ref().set_read_timeout(Some(PATIENCE))?;
        let mut answers = Vec::new();
        for command in commands {
            let mut text = format!("*{}\r\n", command.len());
            for word in *command {
                text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
            stream.get_mut().write_all(text.as_bytes())?;
            answers.push(answer(&mut stream)?);
        }
        Ok(answers)
    }

    /// Ends it as an operator does (SIGTERM): it writes what it has to write.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let started = Instant::now();
        while self.process.try_wait().expect("a child process").is_none() {
            assert!(started.elapsed() < PATIENCE, "Redis did not end");
            sleep(Duration::from_millis(5));
        }
    }

    /// Makes it hang: it accepts connections and says nothing (SIGSTOP).
    ///
    /// # Panics
    /// If it has ended.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`freeze`](Self::freeze).
    ///
    /// # Panics
    /// If it has ended.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Ends it as a crash does (SIGKILL).
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        self.process.kill().expect("a child process");
        self.process.wait().expect("a child process");
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), in the same folder with
    /// the same options.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    pub fn start_again(&mut self) {
        let _ = fs::remove_file(self.socket());
        self.process = spawn(&self.folder, &self.options);
        self.wait();
    }

    fn wait(&mut self) {
        let started = Instant::now();
        loop {
            match self.try_commands(&[&["PING"]]) {
                Ok(answers) if !answers[0].starts_with("-LOADING") => return,
                _ => {}
            }
            let ended = self.process.try_wait().expect("a child process");
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "Redis ended: {ended:?}\n{}", log());
            assert!(
                started.elapsed() < PATIENCE,
                "Redis did not start within {PATIENCE:?}\n{}",
                log()
            );
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &Path, options: &[String]) -> Child {
    let log = fs::File::create(folder.join("log")).expect("a temporary file");
    Command::new("redis-server")
        .args(["--port", "0", "--daemonize", "no", "--save", ""])
        .args(["--appendonly", "no", "--unixsocketperm", "600"])
        .arg("--unixsocket")
        .arg(socket(folder))
        .arg("--dir")
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program `redis-server`: apt-get install redis-server")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// One answer of RESP2: its first line, or a string.
fn answer(stream: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end().to_owned();
    let (mark, rest) = line.split_at(1);
    let number = rest.parse::<usize>();
    match (mark, number) {
        ("$", Ok(length)) => {
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text)?;
            text.truncate(length);
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        ("*", Ok(items)) => {
            let items: std::io::Result<Vec<String>> = (0..items).map(|_| answer(stream)).collect();
            Ok(items?.join("\n"))
        }
        _ => Ok(line),
    }
}

/// A temporary folder that only this user can read.
fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("bowline-redis-{}-{number}", std::process::id()));
    DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .expect("a temporary folder");
    folder
}

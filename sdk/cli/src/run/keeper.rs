//! The process between `bowline run` and the command. It holds no key. If `bowline run` dies, even
//! by SIGKILL, the keeper ends the command and everything that the command has started: what takes
//! the proxy's port next must hear nothing of them.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, getpgrp, getppid, kill_process, pidfd_open,
    set_dumpable_behavior,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{handover, processes};
use crate::failure::Failure;

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

#[derive(Debug, Args)]
pub(crate) struct KeeperOptions {
    #[arg(long)]
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Where signals for the command arrive.
pub(super) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// From now on these signals end this process no more.
    pub(super) fn catch() -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(16);
        for forwarded in FORWARDED {
            let mut signals = signal(SignalKind::from_raw(forwarded.as_raw()))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if sender.send(forwarded).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self(receiver))
    }

    /// The next signal that the command has not got already.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            match self.0.recv().await {
                Some(signal) if is_from_terminal(signal) => {}
                Some(signal) => return signal,
                None => std::future::pending().await,
            }
        }
    }
}

/// Whether a terminal sends it to its whole foreground group, of which the command is a part: a
/// second one would look like a user who presses Ctrl-C twice.
fn is_from_terminal(signal: Signal) -> bool {
    let by_key = signal == Signal::INT || signal == Signal::QUIT;
    by_key
        && std::fs::File::open("/dev/tty")
            .is_ok_and(|tty| rustix::termios::tcgetpgrp(&tty).is_ok_and(|group| group == getpgrp()))
}

/// `bowline run-keeper`: not for people.
pub(crate) fn run(options: KeeperOptions) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("the command's keeper: {error}"));
    let parent =
        Pid::from_raw(options.parent).ok_or_else(|| Failure::usage("--parent is no process id"))?;
    let watched = pidfd_open(parent, PidfdFlags::empty()).map_err(|e| failed(e.into()))?;
    // Its id may be another process's by now.
    if getppid() != Some(parent) {
        return Err(Failure::failed("`bowline run` has ended"));
    }
    // The proxy's listener is here.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| failed(e.into()))?;
    let given = handover::receive(std::io::stdin()).map_err(failed)?;
    processes::adopt_orphans().map_err(|error| failed(error.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let mut signals = Signals::catch().map_err(failed)?;
        let mut ended = signal(SignalKind::child()).map_err(failed)?;
        let (program, arguments) = options.command.split_first().expect("clap requires one");
        // Not waited for by this handle: orphans are waited for, too, and it may be any of them.
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::from(given.stdin));
        // Held to the end of this process.
        let _port = given.listener;
        let spawned = command.spawn();
        // With its standard input, which is the command's alone.
        drop(command);
        let child = match spawned {
            Ok(child) => child.id(),
            Err(error) => {
                let name = program.display();
                // A closed standard error cannot be told about.
                let _ = writeln!(
                    std::io::stderr(),
                    "bowline: {name} cannot be started: {error}"
                );
                // As in shells.
                let code = match error.kind() {
                    ErrorKind::NotFound => 127,
                    _ => 126,
                };
                return Ok(ExitCode::from(code));
            }
        };
        let child = i32::try_from(child)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        std::thread::spawn(move || {
            let mut polled = [PollFd::new(&watched, PollFlags::IN)];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            processes::end_all_below(true);
            std::process::exit(128 + Signal::KILL.as_raw());
        });
        loop {
            let reaped = processes::reap();
            if let Some((_, status)) = reaped.into_iter().find(|(pid, _)| *pid == child) {
                // If `bowline run` is gone, the thread has ended the command and is not done: it ends
                // what else is left, and then this process. To return here would leave the rest alone.
                if getppid() != Some(parent) {
                    return std::future::pending().await;
                }
                return Ok(ExitCode::from(processes::exit_code(status)));
            }
            tokio::select! {
                _ = ended.recv() => {}
                signal = signals.next() => {
                    let _ = kill_process(child, signal);
                }
            }
        }
    })
}

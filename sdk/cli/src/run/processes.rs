//! The processes below this one, found in `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, waitpid,
};

/// How long processes have after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(5);

/// From now on a process below this one whose parent ends becomes this one's child, also one that
/// has left its group and session.
pub(super) fn adopt_orphans() -> rustix::io::Result<()> {
    set_child_subreaper(Some(getpid()))
}

/// Ends all processes below this one, at once or after a time.
pub(super) fn end_all_below(at_once: bool) {
    let started = Instant::now();
    let mut told = false;
    loop {
        reap();
        let below = below(getpid().as_raw_nonzero().get(), &parents());
        if below.is_empty() || started.elapsed() > GRACE * 3 {
            return;
        }
        let signal = match at_once || started.elapsed() > GRACE {
            true => Some(Signal::KILL),
            false if !told => Some(Signal::TERM),
            false => None,
        };
        told = true;
        for pid in below.into_iter().filter_map(Pid::from_raw) {
            if let Some(signal) = signal {
                // It may have ended by itself.
                let _ = kill_process(pid, signal);
            }
        }
        std::thread::sleep(STEP);
    }
}

/// What children that have ended were: without this they would stay as zombies.
pub(super) fn reap() -> Vec<(Pid, WaitStatus)> {
    let ended = || waitpid(None, WaitOptions::NOHANG).ok().flatten();
    std::iter::from_fn(ended).collect()
}

/// As a shell says it.
pub(super) fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or_default(),
    };
    u8::try_from(code).unwrap_or(255)
}

/// Each live process and its parent.
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parent(&stat)?))
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`, unless the process is a zombie. Its name may hold
/// blanks and brackets.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

fn below(root: i32, parents: &[(i32, i32)]) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

#[cfg(test)]
mod tests;

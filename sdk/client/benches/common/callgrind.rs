//! Instructions, counted by valgrind.

use std::process::{Command, Stdio};

use serde::Serialize;

use super::child::Child;
use super::figures::{folder, progress};

/// Starts this program under callgrind, with a job. The profile is kept for `callgrind_annotate`,
/// as `target/bench/PROFILE.callgrind`. `None` without valgrind, which is reported.
pub(crate) fn callgrind(
    profile: &str,
    options: &[&str],
    role: &str,
    job: &impl Serialize,
) -> Option<Child> {
    if let Err(error) = Command::new("valgrind").arg("--version").output() {
        progress(format_args!(
            "no valgrind ({error}): instructions are left out"
        ));
        return None;
    }
    std::fs::create_dir_all(folder()).expect("a folder to write to");
    let profile = folder().join(format!("{profile}.callgrind"));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .args(options)
        .arg(std::env::current_exe().expect("the path of this program"))
        .stderr(Stdio::piped());
    Some(Child::under(valgrind, role, job))
}

/// Waits for its end, and returns the instructions that were counted.
pub(crate) fn collected(child: Child) -> u64 {
    let report = child.finish();
    let line = report
        .lines()
        .find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.unwrap_or_else(|| panic!("valgrind reports no count:\n{report}"));
    count.trim().parse().expect("a number")
}

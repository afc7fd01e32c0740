//! Instructions, counted by valgrind.

use std::collections::HashMap;
use std::path::PathBuf;
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
    let profile = file(profile);
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

fn file(profile: &str) -> PathBuf {
    folder().join(format!("{profile}.callgrind"))
}

/// How often certain functions were called by others, and with how many instructions until they
/// returned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) number: u64,
    pub(crate) instructions: u64,
}

/// Reads a profile that has been written. Functions that the compiler has put into their callers
/// are not seen.
pub(crate) fn calls_into(profile: &str, is_one: impl Fn(&str) -> bool) -> Calls {
    let text = std::fs::read_to_string(file(profile)).expect("a profile");
    let mut names: HashMap<&str, &str> = HashMap::new();
    let mut found = Calls::default();
    let (mut caller_is_one, mut callee_is_one) = (false, false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(function) = line.strip_prefix("fn=") {
            caller_is_one = is_one(full_name(&mut names, function));
        } else if let Some(function) = line.strip_prefix("cfn=") {
            callee_is_one = is_one(full_name(&mut names, function));
        } else if let Some(call) = line.strip_prefix("calls=") {
            // The line that follows has the cost: a position, and the instructions.
            let cost = lines.next().unwrap_or_default();
            if callee_is_one && !caller_is_one {
                found.number += first_number(call);
                found.instructions += cost.split(' ').nth(1).map_or(0, first_number);
            }
        }
    }
    found
}

/// A name is written as `(id) name` when it comes for the first time, and as `(id)` from then on.
fn full_name<'a>(names: &mut HashMap<&'a str, &'a str>, written: &'a str) -> &'a str {
    match written.split_once(' ') {
        Some((id, name)) => {
            names.insert(id, name);
            name
        }
        None => names.get(written).copied().unwrap_or_default(),
    }
}

fn first_number(text: &str) -> u64 {
    let number = text.split(' ').next().unwrap_or_default();
    number.parse().expect("a number in the profile")
}

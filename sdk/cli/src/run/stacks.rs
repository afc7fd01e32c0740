//! What can be told from the command alone: that its HTTP stack does not reach the proxy.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a user should know before the command starts.
pub(super) fn warning(command: &[OsString], java: bool) -> Option<String> {
    let program = command.first()?;
    // A version manager's `node` is a script, too.
    known(program, java).unwrap_or_else(|| known(&interpreter(program)?, java)?)
}

/// What to say of a program of this name, if it is one that something is known of.
fn known(program: &OsStr, java: bool) -> Option<Option<String>> {
    let name = Path::new(program).file_name().and_then(OsStr::to_str)?;
    let warning = match name {
        "node" | "nodejs" => old_node(program),
        "npm" | "npx" | "pnpm" | "yarn" | "tsx" => old_node(OsStr::new("node")),
        "java" | "jshell" | "jbang" => (!java).then(|| {
            "Java's own HTTP clients read no proxy variables: --java tells them in another way"
                .to_owned()
        }),
        _ => return None,
    };
    Some(warning)
}

/// The program that runs `program`, as its first line says (`#!/usr/bin/env node`).
fn interpreter(program: &OsStr) -> Option<OsString> {
    let mut start = Vec::new();
    let file = File::open(find(program)?).ok()?;
    file.take(256).read_to_end(&mut start).ok()?;
    named_in(&start).map(OsString::from)
}

fn find(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return Some(path.to_owned());
    }
    let places = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&places).map(|place| place.join(path));
    candidates.find(|path| path.is_file())
}

fn named_in(start: &[u8]) -> Option<String> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let mut words = str::from_utf8(line).ok()?.split_whitespace();
    let first = words.next()?;
    let is_env = Path::new(first).file_name() == Some(OsStr::new("env"));
    let is_program = |word: &&str| !word.starts_with('-') && !word.contains('=');
    let named = if is_env {
        words.find(is_program)?
    } else {
        first
    };
    Some(named.to_owned())
}

fn old_node(node: &OsStr) -> Option<String> {
    let output = std::process::Command::new(node)
        .arg("--version")
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let version = version.trim().trim_start_matches('v');
    let is_old = !heeds_proxies(version)?;
    is_old.then(|| {
        format!(
            "Node.js {version} heeds no proxy variables but in axios and grpc-js: use Node.js 22.21, \
             or 24 and later"
        )
    })
}

/// Whether this version knows `NODE_USE_ENV_PROXY`.
fn heeds_proxies(version: &str) -> Option<bool> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(major >= 24 || (major == 22 && minor >= 21))
}

#[cfg(test)]
mod tests;

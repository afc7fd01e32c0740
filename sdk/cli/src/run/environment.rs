//! The variables of the command: what makes its HTTP stacks go through the egress and trust the
//! local authority. Which stack reads which is measured: see `docs/src/any-agent.md`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::egress::names::{Allowed, HostPort};

/// Each of these *replaces* what some stack trusts by the file that it names.
pub(crate) const REPLACING: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "GIT_SSL_CAINFO",
];
/// Each of these adds to what a stack trusts.
pub(crate) const ADDING: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// `SSL_CERT_DIR` makes curl ignore `SSL_CERT_FILE`. grpcio prefers its own two over
/// `https_proxy` and `no_proxy`.
const REMOVED: [&str; 5] = [
    "SSL_CERT_DIR",
    "grpc_proxy",
    "GRPC_PROXY",
    "no_grpc_proxy",
    "NO_GRPC_PROXY",
];
/// They would name the key to the command.
const OURS: &str = "BOWLINE_";
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What changes; `None` removes a variable.
pub(crate) type Changes = BTreeMap<String, Option<OsString>>;

/// `files` gives each variable of [`REPLACING`] and [`ADDING`] its file.
pub(crate) fn changes(
    inherited: &[(OsString, OsString)],
    proxy: &str,
    allowed: &Allowed,
    files: impl Fn(&str) -> OsString,
) -> Changes {
    let mut changes = Changes::new();
    let mut set = |name: &str, value: OsString| changes.insert(name.to_owned(), Some(value));
    for name in ["HTTPS_PROXY", "https_proxy"] {
        set(name, proxy.into());
    }
    let no_proxy = no_proxy(inherited, allowed);
    for name in ["NO_PROXY", "no_proxy"] {
        set(name, no_proxy.clone().into());
    }
    for name in REPLACING.iter().chain(&ADDING) {
        set(name, files(name));
    }
    set("NODE_USE_ENV_PROXY", "1".into());
    for name in REMOVED {
        changes.insert(name.to_owned(), None);
    }
    let names = inherited.iter().filter_map(|(name, _)| name.to_str());
    for name in names.filter(|name| name.starts_with(OURS)) {
        changes.insert(name.to_owned(), None);
    }
    changes
}

/// Both lists of the environment without what matches an allowed origin, and the loopback hosts.
fn no_proxy(inherited: &[(OsString, OsString)], allowed: &Allowed) -> String {
    let value = |name: &str| {
        let (_, value) = inherited
            .iter()
            .find(|(known, _)| known == OsStr::new(name))?;
        value.to_str()
    };
    let lists = ["no_proxy", "NO_PROXY"].into_iter().filter_map(value);
    let loopback = LOOPBACK
        .into_iter()
        .filter(|name| allowed.iter().all(|origin| origin.host() != *name));
    let mut entries: Vec<&str> = Vec::new();
    // curl separates by blanks, too.
    let known = lists.flat_map(|list| list.split([',', ' ', '\t', '\n', '\r']));
    for entry in known.chain(loopback) {
        let is_new = !entry.is_empty() && !entries.contains(&entry);
        if is_new && !allowed.iter().any(|origin| matches(entry, origin)) {
            entries.push(entry);
        }
    }
    entries.join(",")
}

/// Whether any of the known stacks sends requests to `origin` past a proxy because of this entry.
///
/// - `*`: alone in curl and Python, anywhere in Go and httpx.
/// - `example.com`, `.example.com`, `*.example.com`: the name and those below it. `requests`
///   compares ends of names without looking for a dot.
/// - `example.com:8443`: Go and Python.
/// - `https://example.com`: httpx.
fn matches(entry: &str, origin: &HostPort) -> bool {
    let entry = entry.to_ascii_lowercase();
    let entry = entry.split_once("://").map_or(&*entry, |(_, rest)| rest);
    let entry = entry.trim_start_matches('*').trim_start_matches('.');
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
        _ => (entry, None),
    };
    let name = name.trim_end_matches('.');
    port.is_none_or(|port| port == origin.port()) && origin.host().ends_with(name)
}

#[cfg(test)]
mod tests;

//! `--java`: what Java's own HTTP clients read, since they read no proxy variables.
//!
//! Java 17 and 25 take a trust store of the type JKS, and no PEM file (measured).

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::CertificateDer;

use crate::egress::names::Allowed;
use crate::failure::Failure;

/// Every Java process reads it, and says so on standard error.
pub(super) const VARIABLE: &str = "JAVA_TOOL_OPTIONS";
/// The trust store's name in the private directory.
pub(super) const STORE: &str = "java.jks";

/// What the launcher and the virtual machine read besides; both win over [`VARIABLE`].
const VARIABLES: [&str; 3] = [VARIABLE, "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];
const OURS: [&str; 3] = [
    "-Dhttps.proxy",
    "-Djavax.net.ssl.trustStore",
    "-Dhttp.nonProxyHosts",
];

/// The value of [`VARIABLE`]: what was inherited, and the proxy and the trust store.
///
/// # Errors
/// The environment sets one of the two in its own way.
pub(super) fn options(
    inherited: &[(OsString, OsString)],
    proxy: SocketAddr,
    store: &Path,
    allowed: &Allowed,
) -> Result<OsString, Failure> {
    for variable in VARIABLES {
        let value = value(inherited, variable).to_string_lossy();
        if let Some(option) = OURS.iter().find(|option| value.contains(**option)) {
            return Err(Failure::usage(format!(
                "{variable} holds {option}…, which --java sets: take it out"
            )));
        }
    }
    let (host, port) = (proxy.ip(), proxy.port());
    let mut options = value(inherited, VARIABLE).to_owned();
    if !options.is_empty() {
        options.push(" ");
    }
    options.push(format!("-Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"));
    // Without this Java goes to loopback past every proxy.
    if allowed.iter().any(|origin| origin.host() == "localhost") {
        options.push(" -Dhttp.nonProxyHosts=");
    }
    options.push(" -Djavax.net.ssl.trustStoreType=JKS -Djavax.net.ssl.trustStore=");
    options.push(quoted(store)?);
    Ok(options)
}

fn value<'a>(inherited: &'a [(OsString, OsString)], name: &str) -> &'a OsStr {
    let variable = inherited.iter().find(|(known, _)| known == name);
    variable.map_or(OsStr::new(""), |(_, value)| value)
}

/// Java splits the variable at blanks outside of quotes, and knows no escapes.
fn quoted(path: &Path) -> Result<OsString, Failure> {
    let text = path.to_string_lossy();
    let quote = match (text.contains('"'), text.contains('\'')) {
        (false, _) => "\"",
        (true, false) => "'",
        (true, true) => {
            let path = path.display();
            let message = format!("{path} has quotes of both kinds, which {VARIABLE} cannot hold");
            return Err(Failure::usage(message));
        }
    };
    let mut quoted = OsString::from(quote);
    quoted.push(path);
    quoted.push(quote);
    Ok(quoted)
}

/// A trust store of the type JKS (as the JDK's `sun.security.provider.JavaKeyStore` describes it).
/// It ends with a digest under the usual password. Java checks that only where a password is given.
pub(super) fn trust_store<'a>(
    certificates: impl ExactSizeIterator<Item = &'a CertificateDer<'a>>,
    now: SystemTime,
) -> Vec<u8> {
    const MAGIC: u32 = 0xfeed_feed;
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    const PASSWORD: &str = "changeit";

    let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(millis.as_millis()).unwrap_or_default();
    let mut store = Vec::new();
    for word in [MAGIC, VERSION, length(certificates.len())] {
        store.extend(word.to_be_bytes());
    }
    for (number, certificate) in certificates.enumerate() {
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, &number.to_string());
        store.extend(millis.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length(certificate.len()).to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        digest.update(&unit.to_be_bytes());
    }
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend_from_slice(digest.finish().as_ref());
    store
}

/// As Java's `DataOutput.writeUTF`, for ASCII.
fn text(store: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("a short text");
    store.extend(length.to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("certificates are shorter than 4 GiB")
}

#[cfg(test)]
mod tests;

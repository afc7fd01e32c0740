//! Members of headers and of claims, each with its meaning in a line.

use bowline_proof::seconds;
use serde_json::Value;

use super::jws::Members;
use super::report::Report;
use crate::text::moment;

/// The members of `cnf`, what a token is bound to (RFC 7800).
const CONFIRMATIONS: &[(&str, &str)] = &[
    (
        "x5t#S256",
        "it is bound to the client certificate with this SHA-256 (RFC 8705)",
    ),
    (
        "tls_exp",
        "it goes with a session-binding proof, of this exporter label (TK-2)",
    ),
    (
        "jkt",
        "it is bound to the DPoP key with this thumbprint (RFC 9449)",
    ),
];

/// Explains each member. `show` may say what to show in place of a value.
pub(super) fn explain(
    report: &mut Report,
    part: &'static str,
    members: &Members,
    meanings: &[(&str, &'static str)],
    now: u64,
    show: impl Fn(&str, &Value) -> Option<String>,
) {
    for (name, value) in &members.0 {
        if let ("cnf", Value::Object(methods)) = (name.as_str(), value)
            && !methods.is_empty()
        {
            for (method, value) in methods {
                let meaning = CONFIRMATIONS.iter().find(|(known, _)| known == method);
                let meaning = meaning.map_or("a way of binding that is not known here", |m| m.1);
                report.member(part, format!("cnf.{method}"), plain(value), meaning);
            }
            continue;
        }
        let meaning = meanings.iter().find(|(known, _)| known == name);
        let meaning = meaning.map_or("", |(_, meaning)| meaning);
        let at = match name.as_str() {
            "exp" | "iat" | "nbf" | "auth_time" => seconds(value).map(|at| moment(at, now)),
            _ => None,
        };
        let shown = show(name, value).unwrap_or_else(|| plain(value));
        let meaning = match at {
            None => meaning.to_owned(),
            Some(at) => format!("{meaning}: {at}"),
        };
        report.member(part, name, shown, meaning);
    }
}

/// A string as it is, all else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Bytes that are not shown.
pub(super) fn hidden(value: &Value) -> String {
    let length = value.as_str().map_or(0, str::len);
    format!("({length} characters, not shown)")
}

//! A session-binding proof: its members, and the checks of RS-5 to RS-9.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::AccessToken;
use bowline::client::{ExporterValue, Thumbprint};
use bowline_proof::{Check, Expected, ProofVerifier, Refusal, Targets, Windows, seconds};
use http::Method;
use rustls_pki_types::UnixTime;

use super::claims::{explain, hidden};
use super::input::{exporter, is_type};
use super::jws::Jws;
use super::report::{Outcome, Report};
use super::{Known, token};
use crate::text::{hash_name, rough};

const HEADER: &[(&str, &str)] = &[
    ("typ", "what it is (PR-1)"),
    (
        "alg",
        "the algorithm of the signature, which fits the certificate's key (PR-2)",
    ),
    (
        "x5t#S256",
        "SHA-256 of the client certificate of its connection (PR-3)",
    ),
    ("crit", "extensions that must be understood: refused (PR-9)"),
];

const CLAIMS: &[(&str, &str)] = &[
    (
        "ath",
        "SHA-256 of the access token that it goes with (PR-5)",
    ),
    (
        "ekm",
        "the exporter value of its connection, secret-like (EX-7)",
    ),
    ("iat", "when it was made (RS-8)"),
    (
        "jti",
        "its own name, seen once only: it is for one request (PR-6)",
    ),
    ("htm", "the method of that request (PR-6)"),
    ("htu", "the URL of that request (PR-6)"),
];

pub(super) fn inspect(text: &str, jws: &Jws, known: &Known) -> Report {
    let title = format!("session-binding proof, {} bytes", text.len());
    let mut report = Report::new("session_binding_proof", title);
    explain(
        &mut report,
        "header",
        &jws.header,
        HEADER,
        known.now,
        |_, _| None,
    );
    explain(
        &mut report,
        "claims",
        &jws.claims,
        CLAIMS,
        known.now,
        |name, value| match name {
            "ekm" => Some(hidden(value)),
            "ath" => URL_SAFE_NO_PAD
                .decode(value.as_str()?)
                .ok()
                .map(|hash| hash_name(&hash)),
            _ => None,
        },
    );
    authentic(&mut report, text, jws, known);
    report.check(
        "RS-6",
        "ekm is that of the connection",
        exporter_check(jws, known),
    );
    report.check("RS-7", "ath is that of the token", token_check(jws, known));
    report.check(
        "RS-8",
        "iat lies within its window",
        issued_at(jws, known.now),
    );
    request(&mut report, jws, known);
    if let (Some(token), Some(thumbprint)) = (&known.token, thumbprint(jws)) {
        report.check(
            "RS-3",
            "the token is bound to the proof's certificate",
            token::bound_to(token, thumbprint),
        );
    }
    report
}

fn thumbprint(jws: &Jws) -> Option<Thumbprint> {
    jws.header.text("x5t#S256")?.parse().ok()
}

/// The checks of RS-5, in the verifier's order.
const AUTHENTIC: [(&str, &str); 6] = [
    ("RS-5, PR-9", "a compact JWS of at most 8 KiB, without crit"),
    ("RS-5, PR-1", "typ is tls-binding-proof+jwt"),
    ("RS-5, PR-2", "alg fits the certificate's key"),
    ("RS-5, PR-3", "x5t#S256 is the certificate's"),
    ("RS-5, PR-4", "the signature is by the certificate's key"),
    (
        "RS-5, PR-5",
        "ath, ekm and iat are there, each claim once and of its type",
    ),
];

/// Which of them refused.
fn refused(refusal: &Refusal) -> Option<usize> {
    match refusal.check() {
        Check::ProofSyntax if refusal.description().contains("payload") => Some(5),
        Check::ProofSyntax if refusal.description().contains("jti") => None,
        Check::ProofSyntax => Some(0),
        Check::ProofType => Some(1),
        Check::ProofAlgorithm => Some(2),
        Check::ProofThumbprint => Some(3),
        Check::ProofSignature => Some(4),
        _ => None,
    }
}

fn authentic(report: &mut Report, text: &str, jws: &Jws, known: &Known) {
    let verified = match &known.certificate {
        None => Err("give the client certificate with --cert".to_owned()),
        Some(der) => match ProofVerifier::new(&der.as_slice().into()) {
            Ok(verifier) => Ok(verifier),
            Err(error) => Err(format!("the certificate of --cert cannot be used: {error}")),
        },
    };
    let verifier = match verified {
        Ok(verifier) => verifier,
        Err(why) => {
            let is_typed = is_type(&jws.header, "tls-binding-proof+jwt");
            for (index, (id, what)) in AUTHENTIC.into_iter().enumerate() {
                let outcome = match index {
                    1 => Outcome::of(is_typed, "it is another"),
                    _ => Outcome::unknown(&why),
                };
                report.check(id, what, outcome);
            }
            return;
        }
    };
    let refusal = verify(&verifier, text, jws, known).err();
    let at = refusal.as_ref().and_then(refused);
    let same_certificate = thumbprint(jws) == Some(verifier.thumbprint());
    for (index, (id, what)) in AUTHENTIC.into_iter().enumerate() {
        let outcome = match (at, &refusal) {
            (Some(at), Some(refusal)) if index == at => Outcome::failed(refusal.description()),
            // This one needs nothing of those before it.
            (Some(at), _) if index > at && index == 3 => {
                Outcome::of(same_certificate, Check::ProofThumbprint.description())
            }
            (Some(at), _) if index > at => Outcome::unknown("an earlier check of RS-5 failed"),
            _ => Outcome::Ok,
        };
        report.check(id, what, outcome);
    }
}

/// The verifier that servers use. What is not known is taken from the proof, where that can be, so
/// that it does not refuse for it.
fn verify(verifier: &ProofVerifier, text: &str, jws: &Jws, known: &Known) -> Result<(), Refusal> {
    let exporter = known
        .exporter
        .clone()
        .or_else(|| exporter(jws.claims.text("ekm")?).ok())
        .unwrap_or(ExporterValue::from_bytes([0; 32]));
    let any_token = AccessToken::new("none").expect("a token by its form");
    let token = known.token.as_ref().unwrap_or(&any_token);
    let now = jws.claims.get("iat").and_then(seconds);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unwrap_or(known.now)));
    verifier
        .verify(
            text.as_bytes(),
            &Expected {
                exporter: &exporter,
                token: token.hash(),
                now,
                handshake_at: now,
                method: &Method::GET,
                path: "/",
                targets: &Targets::default(),
                windows: &Windows::default(),
            },
        )
        .map(drop)
}

fn exporter_check(jws: &Jws, known: &Known) -> Outcome {
    let Some(own) = &known.exporter else {
        return Outcome::unknown("give the connection's exporter value with --exporter");
    };
    let claimed = jws.claims.text("ekm").and_then(|ekm| exporter(ekm).ok());
    let is_same = claimed.is_some_and(|claimed| claimed.matches(own));
    Outcome::of(is_same, Check::Exporter.description())
}

fn token_check(jws: &Jws, known: &Known) -> Outcome {
    let Some(token) = &known.token else {
        return Outcome::unknown("give the access token with --token");
    };
    let hash = URL_SAFE_NO_PAD.encode(token.hash().as_bytes());
    let is_same = jws.claims.text("ath") == Some(&hash);
    Outcome::of(is_same, Check::TokenHash.description())
}

fn issued_at(jws: &Jws, now: u64) -> Outcome {
    let windows = Windows::default();
    let Some(iat) = jws.claims.get("iat").and_then(serde_json::Value::as_u64) else {
        return Outcome::failed("iat is no whole number of seconds since 1970");
    };
    let is_for_one_request = ["jti", "htm", "htu"]
        .iter()
        .any(|name| jws.claims.get(name).is_some());
    if iat > now.saturating_add(windows.future.as_secs()) {
        let ahead = rough(iat - now);
        return Outcome::failed(format!("it lies {ahead} ahead of this machine's clock"));
    }
    if iat >= now.saturating_sub(windows.past.as_secs()) {
        return Outcome::Ok;
    }
    let age = rough(now - iat);
    match is_for_one_request {
        true => Outcome::failed(format!(
            "it is {age} old, and one for a single request may be {} old",
            rough(windows.past.as_secs())
        )),
        false => Outcome::unknown(format!(
            "it is {age} old, and may be as old as its connection: only its ends know when \
             that was opened"
        )),
    }
}

fn request(report: &mut Report, jws: &Jws, known: &Known) {
    let present: Vec<&str> = ["jti", "htm", "htu"]
        .into_iter()
        .filter(|name| jws.claims.get(name).is_some())
        .collect();
    if present.is_empty() {
        return;
    }
    report.check(
        "PR-6",
        "jti, htm and htu are all there",
        match present.len() {
            3 => Outcome::Ok,
            _ => Outcome::unknown(format!(
                "only {}: a server that demands proofs for one request refuses it (RS-12)",
                present.join(" and ")
            )),
        },
    );
    method_and_url(report, "RS-9", jws, known);
    report.check(
        "RS-9",
        "jti was not seen before",
        Outcome::unknown("only the server remembers"),
    );
}

/// `htm` and `htu`, of either kind of proof.
pub(super) fn method_and_url(report: &mut Report, id: &'static str, jws: &Jws, known: &Known) {
    if let Some(htm) = jws.claims.text("htm") {
        let outcome = match &known.method {
            None => Outcome::unknown("give the request's method with --request"),
            Some(method) => Outcome::of(htm == method.as_str(), Check::Method.description()),
        };
        report.check(id, "htm is the method of the request", outcome);
    }
    if let Some(htu) = jws.claims.text("htu") {
        let outcome = match &known.url {
            None => Outcome::unknown("give the request's URL with --url"),
            Some(url) => same_target(htu, url),
        };
        report.check(id, "htu is the target of the request", outcome);
    }
}

/// Compared in the form of PR-7.
fn same_target(htu: &str, url: &http::Uri) -> Outcome {
    let expected = match bowline_proof::target_uri(url) {
        Ok(expected) => expected,
        Err(error) => return Outcome::unknown(format!("--url: {error}")),
    };
    let is_bare = htu.starts_with('/');
    let claimed = match is_bare {
        // A bare path is that of any origin.
        true => bowline::client::Origin::from_uri(url)
            .ok()
            .and_then(|origin| format!("{}{htu}", origin.as_str()).parse().ok()),
        false => htu.parse().ok(),
    };
    let claimed = claimed.and_then(|claimed| bowline_proof::target_uri(&claimed).ok());
    Outcome::of(claimed == Some(expected), Check::TargetUri.description())
}

//! A DPoP proof (RFC 9449): its members, and the checks of §4.3.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline::client::{JwkThumbprint, Origin};
use bowline_proof::dpop::{BoundToken, DpopCheck, DpopRefusal, Expected, verify};
use bowline_proof::{Targets, Windows, seconds};
use http::{Method, Uri};
use rustls_pki_types::UnixTime;

use super::Known;
use super::claims::{explain, hidden};
use super::jws::Jws;
use super::report::{Outcome, Report};
use super::session::method_and_url;
use crate::text::{hash_name, rough};

const HEADER: &[(&str, &str)] = &[
    ("typ", "what it is (§4.2)"),
    (
        "alg",
        "the algorithm of the signature, an asymmetric one (§4.2)",
    ),
    ("jwk", "the public key that signed it (§4.2)"),
    ("crit", "extensions that must be understood: refused"),
];

const CLAIMS: &[(&str, &str)] = &[
    ("jti", "its own name, seen once only (§4.2)"),
    ("htm", "the method of its request (§4.2)"),
    ("htu", "the URL of its request (§4.2)"),
    ("iat", "when it was made (§4.2)"),
    (
        "ath",
        "SHA-256 of the access token that it goes with (§4.2)",
    ),
    ("nonce", "what the server gave for it (§8)"),
];

/// The checks of the header and the form, in the verifier's order.
const AUTHENTIC: [(&str, &str); 6] = [
    ("DP-2", "one well-formed JWT of at most 8 KiB, without crit"),
    ("DP-4", "typ is dpop+jwt"),
    (
        "DP-5",
        "alg is an asymmetric algorithm that is supported here",
    ),
    ("DP-7", "jwk is a public key that alg signs with"),
    ("DP-6", "the signature is by the key in jwk"),
    ("DP-3", "jti, htm, htu and iat are there, each of its type"),
];

fn refused(refusal: &DpopRefusal) -> Option<usize> {
    match refusal.check() {
        DpopCheck::Syntax if refusal.description().contains("payload") => Some(5),
        DpopCheck::Syntax => Some(0),
        DpopCheck::Type => Some(1),
        DpopCheck::Algorithm => Some(2),
        DpopCheck::Jwk | DpopCheck::PrivateKey => Some(3),
        DpopCheck::Signature => Some(4),
        DpopCheck::Claims => Some(5),
        _ => None,
    }
}

pub(super) fn inspect(text: &str, jws: &Jws, known: &Known) -> Report {
    let mut report = Report::new("dpop_proof", format!("DPoP proof, {} bytes", text.len()));
    explain(
        &mut report,
        "header",
        &jws.header,
        HEADER,
        known.now,
        |name, value| {
            // A proof that gives a private key away is refused; it is not shown here again.
            let has_private = value.as_object().is_some_and(|jwk| {
                ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
                    .iter()
                    .any(|member| jwk.contains_key(*member))
            });
            (name == "jwk" && has_private).then(|| "(has a private key: not shown)".to_owned())
        },
    );
    explain(
        &mut report,
        "claims",
        &jws.claims,
        CLAIMS,
        known.now,
        |name, value| match name {
            "nonce" => Some(hidden(value)),
            "ath" => URL_SAFE_NO_PAD
                .decode(value.as_str()?)
                .ok()
                .map(|hash| hash_name(&hash)),
            _ => None,
        },
    );
    let verified = run(text, jws, known);
    if let Ok(key) = &verified {
        report.member(
            "key",
            "jkt",
            key.to_string(),
            "the key's thumbprint (RFC 7638)",
        );
    }
    let at = verified.as_ref().err().and_then(refused);
    for (index, (id, what)) in AUTHENTIC.into_iter().enumerate() {
        let outcome = match (at, &verified) {
            (Some(at), Err(refusal)) if index == at => Outcome::failed(refusal.description()),
            (Some(at), _) if index > at => Outcome::unknown("an earlier check failed"),
            _ => Outcome::Ok,
        };
        report.check(id, what, outcome);
    }
    method_and_url(&mut report, "DP-8, DP-9", jws, known);
    report.check(
        "DP-11",
        "iat lies within its window",
        issued_at(jws, known.now),
    );
    token(&mut report, jws, verified.ok(), known);
    report.check(
        "DP-14",
        "jti was not seen before",
        Outcome::unknown("only the server remembers"),
    );
    report
}

/// The verifier that servers use, with the proof's own method, target and time: so it refuses for
/// its form, its header and its signature alone.
fn run(text: &str, jws: &Jws, _: &Known) -> Result<JwkThumbprint, DpopRefusal> {
    let method = jws.claims.text("htm").and_then(|htm| htm.parse().ok());
    let url: Option<Uri> = jws.claims.text("htu").and_then(|htu| htu.parse().ok());
    let origin = url.as_ref().and_then(|url| Origin::from_uri(url).ok());
    let iat = jws.claims.get("iat").and_then(seconds).unwrap_or(0);
    let verified = verify(
        text.as_bytes(),
        &Expected {
            method: &method.unwrap_or(Method::GET),
            path: url.as_ref().map_or("/", Uri::path),
            targets: &Targets::new(origin),
            now: UnixTime::since_unix_epoch(Duration::from_secs(iat)),
            windows: &Windows::default(),
            token: None::<BoundToken<'_>>,
            nonces: None,
        },
    );
    verified.map(|verified| verified.key)
}

fn issued_at(jws: &Jws, now: u64) -> Outcome {
    let windows = Windows::default();
    match jws.claims.get("iat").and_then(seconds) {
        None => Outcome::failed("iat is no number of seconds since 1970"),
        Some(iat) if iat > now.saturating_add(windows.future.as_secs()) => {
            let ahead = rough(iat - now);
            Outcome::failed(format!("it lies {ahead} ahead of this machine's clock"))
        }
        Some(iat) if iat < now.saturating_sub(windows.past.as_secs()) => Outcome::failed(format!(
            "it is {} old, and may be {} old",
            rough(now - iat),
            rough(windows.past.as_secs())
        )),
        Some(_) => Outcome::Ok,
    }
}

fn token(report: &mut Report, jws: &Jws, key: Option<JwkThumbprint>, known: &Known) {
    let ath = "ath is that of the token";
    let bound = "the token is bound to the key in jwk";
    let Some(token) = &known.token else {
        let why = "give the access token with --token";
        report.check("DP-12", ath, Outcome::unknown(why));
        report.check("DP-12", bound, Outcome::unknown(why));
        return;
    };
    let hash = URL_SAFE_NO_PAD.encode(token.hash().as_bytes());
    let is_same = jws.claims.text("ath") == Some(&hash);
    let otherwise = DpopCheck::TokenHash.description();
    report.check("DP-12", ath, Outcome::of(is_same, otherwise));
    let outcome = match (token.jwt_confirmation(), key) {
        (None, _) => Outcome::unknown("the token is opaque: the authorization server knows"),
        (_, None) => Outcome::unknown("the proof did not verify"),
        (Some(Err(error)), _) => Outcome::failed(error.to_string()),
        (Some(Ok(confirmation)), Some(key)) => match confirmation.jkt {
            None => Outcome::failed(DpopCheck::TokenNotBound.description()),
            Some(jkt) => Outcome::of(jkt == key, DpopCheck::KeyBinding.description()),
        },
    };
    report.check("DP-12", bound, outcome);
}

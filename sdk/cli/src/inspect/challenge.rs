//! `WWW-Authenticate`: what the server asks for, and why it refused.

use bowline::client::{BindingError, Challenge, Origin};

use super::report::{Outcome, Report};

const PARAMETERS: &[(&str, &str)] = &[
    ("error", "why it was refused"),
    (
        "error_description",
        "the same for people: the check that failed",
    ),
    ("error_uri", "where more is said of it"),
    ("realm", "what is protected"),
    ("scope", "the scope that is needed"),
    (
        "algs",
        "the algorithms of DPoP proofs that are accepted (RFC 9449 §7.1)",
    ),
    (
        "resource_metadata",
        "where the server says which authorization servers it trusts (RFC 9728)",
    ),
];

/// The errors of RFC 6750, RFC 9449, RFC 9470 and RS-10, and what the client does about each.
const ERRORS: &[(&str, &str)] = &[
    (
        "invalid_request",
        "the request is malformed: it must be changed",
    ),
    ("invalid_token", "the token is not valid here: get another"),
    (
        "insufficient_scope",
        "the token allows too little: get one with the scope that is named",
    ),
    (
        "insufficient_user_authentication",
        "the user must authenticate again (RFC 9470)",
    ),
    (
        "use_session_binding",
        "a session-binding proof is needed (RS-4, RS-10): send one",
    ),
    (
        "invalid_proof",
        "the session-binding proof was refused (RS-5 to RS-9): make another",
    ),
    (
        "use_dpop_nonce",
        "the DPoP proof needs the nonce of the field DPoP-Nonce (RFC 9449 §8)",
    ),
    (
        "invalid_dpop_proof",
        "the DPoP proof was refused (RFC 9449 §7.1): make another",
    ),
];

pub(super) fn inspect(challenges: &[Challenge]) -> Report {
    let title = match challenges.len() {
        1 => "WWW-Authenticate, one challenge".to_owned(),
        many => format!("WWW-Authenticate, {many} challenges"),
    };
    let mut report = Report::new("challenge", title);
    for (index, challenge) in challenges.iter().enumerate() {
        one(&mut report, index, challenge);
    }
    let asks = challenges.iter().any(Challenge::is_for_tokens);
    report.check(
        "RS-10",
        "it asks for an access token (Bearer or DPoP)",
        match asks {
            true => Outcome::Ok,
            false => Outcome::unknown("other schemes are not known here"),
        },
    );
    report
}

fn one(report: &mut Report, index: usize, challenge: &Challenge) {
    let part = format!("challenge {}", index + 1);
    let what = match challenge.is_for_tokens() {
        true => "an access token is asked for",
        false => "another way to authenticate",
    };
    report.member(&part, "scheme", &challenge.scheme, what);
    for (name, value) in &challenge.params {
        let known = |table: &[(&str, &'static str)], key: &str| {
            let found = table
                .iter()
                .find(|(known, _)| key.eq_ignore_ascii_case(known));
            found.map_or("", |(_, meaning)| *meaning)
        };
        let meaning = match name.eq_ignore_ascii_case("error") && challenge.is_for_tokens() {
            true => known(ERRORS, value),
            false => known(PARAMETERS, name),
        };
        report.member(&part, name, value, meaning);
    }
    if !challenge.is_for_tokens() {
        return;
    }
    if let Some(error) = challenge.error() {
        let is_known = ERRORS.iter().any(|(known, _)| *known == error);
        let otherwise = "no client knows what to do about it";
        report.check(
            "RS-10",
            "error is a known one",
            match is_known {
                true => Outcome::Ok,
                false => Outcome::unknown(otherwise),
            },
        );
    }
    let is_dpop = challenge.scheme.eq_ignore_ascii_case("dpop");
    if let Some(error) = challenge.binding_error() {
        report.check(
            "RS-10",
            "error belongs to the challenge's scheme",
            Outcome::of(
                error.is_dpop() == is_dpop,
                format!("{} does not belong to {}", error.as_str(), challenge.scheme),
            ),
        );
    }
    if challenge.binding_error() == Some(BindingError::UseDpopNonce) {
        let why = "the field DPoP-Nonce of the same response has it";
        report.check("RFC 9449 §8", "the nonce came along", Outcome::unknown(why));
    }
    let repeated = challenge.params.iter().enumerate().find(|(at, (name, _))| {
        let mut before = challenge.params[..*at].iter();
        before.any(|(earlier, _)| earlier.eq_ignore_ascii_case(name))
    });
    if let Some((_, (name, _))) = repeated {
        let why = format!("{name} is there twice: one reader takes the first, another the last");
        report.check(
            "RFC 9110 §11.2",
            "each parameter is there once",
            Outcome::Failed(why),
        );
    }
    if let Some(url) = challenge.param("resource_metadata") {
        let origin = url.parse().ok().and_then(|url| Origin::from_uri(&url).ok());
        report.check(
            "CL-10",
            "resource_metadata is an https URL",
            Outcome::of(origin.is_some_and(|origin| origin.is_https()), "it is not"),
        );
    }
}

//! An access token: its claims, what it is bound to, and whether it is valid now.

use bowline::AccessToken;
use bowline::client::{ConfirmationError, Demand, Thumbprint};
use bowline::server::{ExpectedClaims, Jwks, JwtValidator};
use bowline_proof::seconds;

use super::Known;
use super::claims::explain;
use super::jws::Jws;
use super::report::{Outcome, Report};
use crate::failure::Failure;
use crate::text::{rough, token_name};

const HEADER: &[(&str, &str)] = &[
    ("typ", "at+jwt for an access token (RFC 9068)"),
    ("alg", "the algorithm of the signature"),
    ("kid", "which key of the authorization server signed it"),
];

const CLAIMS: &[(&str, &str)] = &[
    ("iss", "the authorization server that issued it"),
    ("sub", "the user or client that it is about"),
    ("aud", "the servers that it is for"),
    ("client_id", "the client that it was issued to"),
    ("azp", "the client that it was issued to"),
    ("scope", "what it allows"),
    ("exp", "the end of its validity"),
    ("nbf", "the beginning of its validity"),
    ("iat", "when it was issued"),
    ("auth_time", "when the user authenticated"),
    ("jti", "its own name"),
    ("act", "who acts for the subject (RFC 8693)"),
    ("cnf", "what it is bound to (RFC 7800)"),
];

/// How far clocks may differ, as `ExpectedClaims` has it.
const LEEWAY: u64 = 60;

pub(super) fn inspect(
    token: &AccessToken,
    jws: Option<&Jws>,
    known: &Known,
) -> Result<Report, Failure> {
    let kind = if jws.is_some() { "JWT" } else { "opaque" };
    let title = format!(
        "access token, {kind}, {} bytes, {}",
        token.secret().len(),
        token_name(token)
    );
    let mut report = Report::new("access_token", title);
    let Some(jws) = jws else {
        let why = "an opaque token says nothing of itself: the authorization server knows \
                   (introspection, RFC 7662)";
        report.check("RS-2", "it is valid", Outcome::unknown(why));
        report.check("TK-1", "what it is bound to", Outcome::unknown(why));
        return Ok(report);
    };
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
        |_, _| None,
    );
    for part in [&jws.header, &jws.claims] {
        if let Some(name) = part.repeated() {
            let why =
                format!("{name} is there twice: one reader takes the first, another the last");
            report.check(
                "RFC 7519 §4",
                "each member is there once",
                Outcome::Failed(why),
            );
        }
    }
    binding(&mut report, token);
    report.check("RS-2", "exp lies ahead", expiry(jws, known.now));
    if let Some(outcome) = not_before(jws, known.now) {
        report.check("RS-2", "nbf has passed", outcome);
    }
    report.check(
        "RS-2",
        "the signature is by the authorization server",
        signature(token, known)?,
    );
    let outcome = match &known.certificate {
        None => Outcome::unknown("give the client certificate with --cert"),
        Some(der) => bound_to(token, Thumbprint::from_certificate(&der.as_slice().into())),
    };
    report.check("RS-3", "cnf.x5t#S256 is the certificate's", outcome);
    Ok(report)
}

/// Whether the token is bound to that certificate.
pub(super) fn bound_to(token: &AccessToken, certificate: Thumbprint) -> Outcome {
    match token.jwt_confirmation() {
        None => Outcome::unknown("the token is opaque: the authorization server knows"),
        Some(Err(error)) => Outcome::failed(error.to_string()),
        Some(Ok(confirmation)) => match confirmation.x5t_s256 {
            None => Outcome::unknown("the token is bound to no certificate"),
            Some(bound) => Outcome::of(
                bound == certificate,
                format!("it is bound to {bound}, and the certificate is {certificate}"),
            ),
        },
    }
}

fn binding(report: &mut Report, token: &AccessToken) {
    let confirmation = token
        .jwt_confirmation()
        .unwrap_or(Err(&ConfirmationError::Malformed));
    let demand = confirmation
        .map_err(|error| *error)
        .and_then(|confirmation| Ok((confirmation, confirmation.demand()?)));
    let (confirmation, demand) = match demand {
        Ok(found) => found,
        Err(error) => {
            let id = match error {
                ConfirmationError::Conflict => "TK-0",
                ConfirmationError::NoCertificate => "TK-1",
                ConfirmationError::UnknownLabel => "TK-2",
                _ => "TK-0, TK-2",
            };
            let what = "cnf can be read and satisfied";
            report.check(id, what, Outcome::failed(error.to_string()));
            return;
        }
    };
    report.check("TK-0, TK-2", "cnf can be read and satisfied", Outcome::Ok);
    report.check(
        "TK-5",
        "cnf has a member that is known, or is not there",
        Outcome::of(
            !confirmation.unknown_method,
            "none is known here: a server refuses it, and does not take it for a bearer token",
        ),
    );
    let (what, why) = match (demand, confirmation.x5t_s256.is_some()) {
        (Demand::Session, _) => ("session", "goes with a session-binding proof (TK-2)"),
        (Demand::Dpop, _) => ("dpop", "goes with a DPoP proof (RFC 9449)"),
        (_, true) => (
            "certificate",
            "goes over its certificate's connections (RFC 8705); a policy may want a proof (RS-13)",
        ),
        (_, false) => ("bearer", "all who have it can use it (RFC 6750)"),
    };
    report.member("binding", "class", what, why);
}

fn expiry(jws: &Jws, now: u64) -> Outcome {
    match jws.claims.get("exp").map(seconds) {
        None => Outcome::failed("there is none, and RFC 9068 §2.2 demands one"),
        Some(None) => Outcome::failed("exp is no number of seconds since 1970"),
        Some(Some(exp)) if exp.saturating_add(LEEWAY) <= now => {
            Outcome::failed(format!("it expired {} ago", rough(now - exp)))
        }
        Some(Some(_)) => Outcome::Ok,
    }
}

fn not_before(jws: &Jws, now: u64) -> Option<Outcome> {
    Some(match jws.claims.get("nbf").map(seconds)? {
        None => Outcome::failed("nbf is no number of seconds since 1970"),
        Some(nbf) if nbf > now.saturating_add(LEEWAY) => {
            Outcome::failed(format!("it is valid only in {}", rough(nbf - now)))
        }
        Some(_) => Outcome::Ok,
    })
}

/// By the validator that servers use.
fn signature(token: &AccessToken, known: &Known) -> Result<Outcome, Failure> {
    let Some(jwks) = &known.jwks else {
        return Ok(Outcome::unknown(
            "give the authorization server's keys with --jwks",
        ));
    };
    let keys = Jwks::document(jwks.clone())
        .map_err(|error| Failure::usage(format!("--jwks: it is no JWK set: {error}")))?;
    // The claims are checks of their own.
    let validator = JwtValidator::builder(ExpectedClaims::new("").issuer(""), keys).build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("no runtime can be started: {error}")))?;
    Ok(match runtime.block_on(validator.verify_signature(token)) {
        Ok(()) => Outcome::Ok,
        Err(error) => Outcome::failed(error.detail()),
    })
}

//! What an error or a refusal means for the one who typed the command, and what to do about it.

use bowline::client::bind::BindingRefusal;
use bowline::client::{Challenge, Step, challenges};
use bowline::{Error, ErrorKind};
use http::{StatusCode, response};

use super::console::printable;
use super::options::CallOptions;
use super::setup::rough;

/// A difference of the clocks that is worth telling, in seconds.
const NOTABLE_DIFFERENCE: u64 = 10;

/// One line: what went wrong, and what to do.
pub(super) fn error(error: &Error, options: &CallOptions) -> String {
    let message = printable(&error.to_string());
    match hint(error, &message, options) {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

fn hint(error: &Error, message: &str, options: &CallOptions) -> Option<&'static str> {
    let says = |text: &str| message.contains(text);
    Some(match error.kind() {
        ErrorKind::NoIdentity => "here, give --cert and --key",
        ErrorKind::Connect if says("lookup") => "check the host's name in the URL",
        ErrorKind::Connect | ErrorKind::Timeout(Step::Connect) => {
            "check the host and the port in the URL, and that the server runs"
        }
        ErrorKind::UnsupportedBinding => "here, give --dpop-key FILE",
        ErrorKind::ClientCertificateNotRequested => {
            "the server must ask for client certificates before it can take this token"
        }
        ErrorKind::PlaintextRefused => "plaintext goes to loopback only",
        // The texts are rustls's own: the client hands its errors down as they are.
        _ if says("UnknownIssuer") => {
            "the server's certificate comes from an authority that is not trusted here: name it \
             with --cacert FILE"
        }
        _ if says("alert: CertificateExpired") => {
            "the server says that the client certificate of --cert has expired"
        }
        _ if says("certificate expired") || says("Expired") => {
            "the server's certificate has expired, or this machine's clock is wrong"
        }
        _ if says("not valid yet") || says("NotValidYet") => {
            "the server's certificate is not valid yet, or this machine's clock is wrong"
        }
        _ if says("not valid for name") || says("NotValidForName") => {
            "the server's certificate names another host: use that name in the URL, and \
             --connect-to for where to connect"
        }
        _ if says("CertificateRequired") || says("HandshakeFailure") && options.cert.is_none() => {
            "the server demands a client certificate: give --cert and --key"
        }
        _ if says("UnknownCA") || says("BadCertificate") || says("DecryptError") => {
            "the server does not accept the client certificate of --cert: does it come from an \
             authority that the server trusts?"
        }
        _ if says("CertificateExpired") => {
            "the server says that the client certificate has expired"
        }
        _ => return None,
    })
}

/// Why the server refused what came with the request; `None` if the answer is no such refusal.
pub(super) fn refusal(head: &response::Parts, options: &CallOptions) -> Option<String> {
    if !matches!(
        head.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST
    ) {
        return None;
    }
    let challenges = challenges(&head.headers);
    let asked: Vec<&Challenge> = challenges.iter().filter(|c| c.is_for_tokens()).collect();
    let challenge = asked
        .iter()
        .find(|challenge| challenge.error().is_some())
        .or(asked.first())?;
    let status = head.status.as_u16();
    let Some(code) = challenge.error() else {
        return Some(match options.token {
            None => format!("the server asks for a token ({status}): give --token"),
            Some(_) => {
                format!("the server does not take the token, and does not say why ({status})")
            }
        });
    };
    let description = match challenge.param("error_description") {
        Some(description) => format!(": {description}"),
        None => String::new(),
    };
    let mut line = format!("the server refused the request ({status}, {code}{description})");
    if let Some(refusal) = head.extensions.get::<BindingRefusal>()
        && let Some(difference) = refusal.clock_difference
        && difference.unsigned_abs() >= NOTABLE_DIFFERENCE
    {
        let side = if difference > 0 { "ahead of" } else { "behind" };
        line.push_str(&format!(
            "; the server's clock is {} {side} this machine's: set it, proofs carry the time",
            rough(difference.unsigned_abs())
        ));
    } else if let Some(advice) = advice(code, options) {
        line.push_str("; ");
        line.push_str(advice);
    }
    Some(printable(&line))
}

fn advice(code: &str, options: &CallOptions) -> Option<&'static str> {
    match code {
        "use_session_binding" if options.cert.is_none() => Some("give --cert and --key"),
        "use_dpop_nonce" | "invalid_dpop_proof" if options.dpop_key.is_none() => {
            Some("give --dpop-key FILE")
        }
        "invalid_token" => Some("`bowline inspect` shows what the token says"),
        _ => None,
    }
}

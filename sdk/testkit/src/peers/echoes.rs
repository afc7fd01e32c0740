//! What a server that echoes tokens and proofs sends back: secrets of several shapes, whole and in
//! pieces, and the responses that both MCP and A2A know.

use axum::body::Body;
use axum::response::Response;

use super::Echo;

/// Tokens of several shapes. The filter for plain text leaves a UUID and a word alone.
pub const ECHOED_TOKENS: [&str; 5] = [
    "mF_9.B5f-4.1JqM.SlAV32hkKG8xLOBeZQQYbYS6WxSbIA4",
    "sk-live/Q7w9zKpX4mV2tR8yB1nC+d==",
    "3f2b8c1e-9d4a-4e6f-8b7c-1a2d3e4f5a6b",
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZ2VudCJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "correcthorse",
];

/// A proof, such as the client makes: a server may echo it as well.
pub const ECHOED_PROOF: &str = "\
     eyJhbGciOiJFUzI1NiIsInR5cCI6InRscy1iaW5kaW5nLXByb29mK2p3dCIsIng1dCNTMjU2IjoiNnJT\
     a1Z2cDJ0Q3hFd0FqN1JqZ0hYYzlhYk5VZHRKdm5aQjFXaGtRMHM4VSJ9.eyJhdGgiOiJmVUh5TzJyMlozRFo1M0VzTnJ\
     XQmIweFdYb2FOeTU5SWlLQ0FxZXhtNVF3IiwiZWttIjoiTFpUSG1kYzVmeHZrQ0dKNDJoMGlYbWJ3Q0lQTGVVRnNPcW5\
     qUXdDM3M0Iiwic3ViIjoiYSJ9.wW1pBZ7Jm4vP0sFqkC8XnRtYhLd3uGaE5oTiKjMxQz2_bV9-cNfSgHyUlOrDeA6IwW\
     1pBZ7Jm4vP0sFqkC8XnQ";

/// What is echoed: the token whole, in halves, and shortened; and once for all tokens a proof,
/// whole and in halves. The beginning of a proof, which is always the same, is no secret.
#[must_use]
pub fn echoed_pieces(token: &str) -> Vec<&str> {
    let (first, second) = token.split_at(token.len() / 2);
    let (first_of_proof, second_of_proof) = ECHOED_PROOF.split_at(ECHOED_PROOF.len() / 2);
    let piece = token.len().min(20);
    let shortened = [&token[..piece], &token[token.len() - piece..]];
    let mut pieces = [&[token, first, second][..], &shortened].concat();
    if token == ECHOED_TOKENS[0] {
        pieces.extend([ECHOED_PROOF, first_of_proof, second_of_proof]);
    }
    pieces
}

/// # Panics
/// If a text shows eight characters of the token, or of the proof, in a row.
pub fn assert_hidden(text: &str, token: &str, context: &str) {
    for secret in [token, ECHOED_PROOF] {
        for start in 0..=secret.len() - 8 {
            let piece = &secret[start..start + 8];
            assert!(
                !text.contains(piece),
                "{context}: {piece} of {secret} in {text}"
            );
        }
    }
}

/// A response with these fields.
///
/// # Panics
/// If a field cannot be one.
#[must_use]
pub fn response(status: u16, fields: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body.into()).expect("fields")
}

/// The media type of JSON, as a field.
pub const JSON: (&str, &str) = ("content-type", "application/json");
/// The media type of event streams, as a field.
pub const EVENTS: (&str, &str) = ("content-type", "text/event-stream");
const TEXT: (&str, &str) = ("content-type", "text/plain");

/// In a text, in fields, in challenges, in a redirect, in JSON and in a media type.
pub const ECHOES: [Echo; 8] = [
    |t| response(400, &[TEXT], format!("what is {t}?")),
    |t| {
        let fields = ["server", "set-cookie", "dpop-nonce", "retry-after"].map(|name| (name, t));
        response(500, &fields, "")
    },
    |t| challenge(403, &format!("error=\"insufficient_scope\", scope=\"{t}\"")),
    |t| {
        challenge(
            401,
            &format!("error=\"invalid_token\", error_description=\"{t}\""),
        )
    },
    |t| challenge(401, &format!("error=\"invalid_proof\", realm=\"{t}\"")),
    |t| response(307, &[("location", &format!("/{t}?{t}"))], ""),
    |t| response(200, &[JSON], serde_json::json!({ "token": t }).to_string()),
    |t| response(200, &[("content-type", &format!("text/{t}"))], "x"),
];

fn challenge(status: u16, parameters: &str) -> Response {
    let challenge = format!("Bearer {parameters}");
    response(status, &[("www-authenticate", &challenge)], "")
}

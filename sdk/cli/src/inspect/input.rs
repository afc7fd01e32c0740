//! What was given: read, and recognised.

use std::path::Path;

use bowline::AccessToken;
use bowline::client::{Challenge, ExporterValue, Scheme, challenges};
use bowline_proof::pem;
use http::{HeaderMap, HeaderValue};

use super::jws::{self, Jws, Members};
use crate::failure::Failure;
use crate::secret;

pub(super) enum Given {
    Token {
        token: AccessToken,
        /// `None`: it is opaque.
        jws: Option<Jws>,
    },
    SessionProof {
        text: String,
        jws: Jws,
    },
    DpopProof {
        text: String,
        jws: Jws,
    },
    Challenges(Vec<Challenge>),
    /// DER.
    Certificates(Vec<Vec<u8>>),
}

/// Which kinds of thing may be given, for messages.
const KINDS: &str = "an access token, a session-binding proof, a DPoP proof, a WWW-Authenticate \
                     field, or a certificate";

impl Given {
    /// Whether it must be kept secret.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Self::Token { .. } | Self::SessionProof { .. } | Self::DpopProof { .. } => true,
            Self::Challenges(_) | Self::Certificates(_) => false,
        }
    }
}

/// Recognises what the bytes are.
pub(super) fn recognise(bytes: &[u8]) -> Result<Given, Failure> {
    // An ASN.1 SEQUENCE, long form: as every certificate begins.
    if let [0x30, 0x80..=0x84, ..] = bytes {
        return Ok(Given::Certificates(vec![bytes.to_vec()]));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Failure::failed(format!(
            "the input is neither a certificate in DER nor text: byte {} is not UTF-8",
            error.valid_up_to() + 1
        ))
    })?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(Failure::failed(format!("the input is empty: give {KINDS}")));
    }
    if text.contains("-----BEGIN") {
        return certificates(text);
    }
    let (field, value) = field(text);
    match field.as_deref() {
        Some("www-authenticate") => return read_challenges(text, true),
        Some("authorization") => return credentials(value),
        Some("session-binding-proof" | "dpop") => return jws(value),
        _ => {}
    }
    if jws::looks_like_jws(value) && !value.contains(char::is_whitespace) {
        return jws(value);
    }
    let scheme = value.split(' ').next().unwrap_or_default();
    let is_scheme = |known: Scheme| known.name().eq_ignore_ascii_case(scheme);
    let has_scheme = [Scheme::Bearer, Scheme::Dpop].into_iter().any(is_scheme);
    if has_scheme && value == scheme {
        // A challenge without parameters.
        return read_challenges(value, true);
    }
    // What follows is one word without the signs of a parameter.
    let mut rest = value[scheme.len()..].trim().trim_end_matches('=').chars();
    let is_credentials = has_scheme && rest.all(|c| !c.is_whitespace() && !"=,\"".contains(c));
    if is_credentials {
        return credentials(value);
    }
    if value.contains(char::is_whitespace) || value.contains('"') {
        return read_challenges(text, false);
    }
    token(AccessToken::new(value))
}

/// The name of one of the fields that are read here, in lower case, and what follows it.
fn field(text: &str) -> (Option<String>, &str) {
    const KNOWN: [&str; 4] = [
        "www-authenticate",
        "authorization",
        "session-binding-proof",
        "dpop",
    ];
    match text.split_once(':') {
        Some((name, value)) if KNOWN.contains(&&*name.trim().to_ascii_lowercase()) => {
            (Some(name.trim().to_ascii_lowercase()), value.trim())
        }
        _ => (None, text),
    }
}

fn certificates(text: &str) -> Result<Given, Failure> {
    if text.contains("PRIVATE KEY-----") && !text.contains("-----BEGIN CERTIFICATE") {
        return Err(Failure::failed(
            "the input is a private key: give it to no one, and the certificate here",
        ));
    }
    let certificates = pem::certificates(text.as_bytes())
        .map_err(|error| Failure::failed(format!("the input cannot be read: {error}")))?;
    let der = certificates.iter().map(|der| der.to_vec()).collect();
    Ok(Given::Certificates(der))
}

fn credentials(value: &str) -> Result<Given, Failure> {
    let field = HeaderValue::from_str(value)
        .map_err(|_| Failure::failed("the credentials have characters that no field may have"))?;
    token(AccessToken::from_credentials(&field))
}

fn token(read: Result<AccessToken, bowline::client::InvalidAccessToken>) -> Result<Given, Failure> {
    let token = read.map_err(|error| Failure::failed(format!("{error}: it is not {KINDS}")))?;
    if jws::looks_like_jws(token.secret()) {
        return jws_or_token(token);
    }
    Ok(Given::Token { token, jws: None })
}

fn jws(text: &str) -> Result<Given, Failure> {
    let jws = jws::read(text).map_err(|why| Failure::failed(format!("the JWS: {why}")))?;
    match kind(&jws) {
        Kind::Session => Ok(Given::SessionProof {
            text: text.to_owned(),
            jws,
        }),
        Kind::Dpop => Ok(Given::DpopProof {
            text: text.to_owned(),
            jws,
        }),
        Kind::Token => match AccessToken::new(text) {
            Ok(token) => Ok(Given::Token {
                token,
                jws: Some(jws),
            }),
            Err(error) => Err(Failure::failed(error)),
        },
    }
}

fn jws_or_token(token: AccessToken) -> Result<Given, Failure> {
    let jws = jws::read(token.secret())
        .map_err(|why| Failure::failed(format!("the access token: {why}")))?;
    Ok(Given::Token {
        token,
        jws: Some(jws),
    })
}

enum Kind {
    Session,
    Dpop,
    Token,
}

/// By `typ`, or else by the members that only one kind has: a proof with a wrong `typ` is a proof
/// that a server refuses, and not a token.
fn kind(jws: &Jws) -> Kind {
    if is_type(&jws.header, "tls-binding-proof+jwt") {
        Kind::Session
    } else if is_type(&jws.header, "dpop+jwt") {
        Kind::Dpop
    } else if is_type(&jws.header, "at+jwt") {
        Kind::Token
    } else if jws.claims.get("ekm").is_some() {
        Kind::Session
    } else if jws.claims.get("htu").is_some() && jws.header.get("jwk").is_some() {
        Kind::Dpop
    } else {
        Kind::Token
    }
}

/// RFC 7515 §4.1.9.
pub(super) fn is_type(header: &Members, expected: &str) -> bool {
    let typ = header.text("typ").unwrap_or_default().to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == expected
}

fn read_challenges(text: &str, is_named: bool) -> Result<Given, Failure> {
    let mut headers = HeaderMap::new();
    for line in text.lines() {
        let (_, value) = field(line);
        if value.trim().is_empty() {
            continue;
        }
        let value = HeaderValue::from_str(value.trim())
            .map_err(|_| Failure::failed("the field has characters that no field may have"))?;
        headers.append(http::header::WWW_AUTHENTICATE, value);
    }
    let challenges = challenges(&headers);
    let is_one = |challenge: &Challenge| is_named || !challenge.params.is_empty();
    match challenges.iter().any(is_one) {
        true => Ok(Given::Challenges(challenges)),
        false => Err(Failure::failed(format!("the input is not {KINDS}"))),
    }
}

/// The first certificate of a file, DER.
pub(super) fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = path.display();
    let bytes = secret::read_file("--cert", path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(bytes);
    }
    let certificates = pem::certificates(&bytes)
        .map_err(|error| Failure::usage(format!("--cert: cannot read {file}: {error}")))?;
    Ok(certificates[0].to_vec())
}

/// An exporter value: 43 characters of base64url, or 64 of hex.
pub(super) fn exporter(text: &str) -> Result<ExporterValue, Failure> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let compact: String = text.chars().filter(|c| *c != ':').collect();
    let bytes = match compact.len() {
        43 => URL_SAFE_NO_PAD.decode(&compact).ok(),
        64 => hex(&compact),
        _ => None,
    };
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(ExporterValue::from_bytes).ok_or_else(|| {
        Failure::usage("--exporter: give 32 bytes, as 43 characters of base64url or 64 of hex")
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).ok();
    digits?.chunks_exact(2).map(byte).collect()
}

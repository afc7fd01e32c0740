//! `WWW-Authenticate`, read and written (RFC 9110 §11.6.1, RFC 6750 §3).

mod reader;

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

use crate::{Algorithm, Scheme};
use reader::Reader;

/// Longer field lines are passed over unread.
const MAX_FIELD_BYTES: usize = 8 * 1024;

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The authentication scheme, as it was written.
    pub scheme: String,
    /// Names, as they were written, and unescaped values, in order.
    pub params: Vec<(String, String)>,
}

/// All challenges of a response, in order: all `WWW-Authenticate` field lines are one list (RFC 9110
/// §5.3), so a parameter at the start of a line belongs to the challenge that the line before it
/// ended with.
///
/// Read over bytes: `obs-text` that is not UTF-8 becomes U+FFFD. A challenge's `token68` is not
/// kept. What cannot be read is passed over, and never hides a challenge behind it; of a challenge
/// of which only a part can be read, that part counts. At most 32 challenges are read, and no field
/// line over 8 KiB.
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut reader = Reader::default();
    for line in headers.get_all(WWW_AUTHENTICATE) {
        if line.len() <= MAX_FIELD_BYTES {
            reader.line(line.as_bytes());
        } else {
            reader.unreadable();
        }
    }
    reader.into_challenges()
}

impl Challenge {
    /// A `Bearer` challenge without parameters (RFC 6750 §3).
    pub fn bearer() -> Self {
        Self {
            scheme: Scheme::Bearer.name().to_owned(),
            params: Vec::new(),
        }
    }

    /// A `DPoP` challenge that names the algorithms of the proofs that are accepted (RFC 9449
    /// §7.1).
    pub fn dpop() -> Self {
        let algorithms = Algorithm::ALL.map(Algorithm::name).join(" ");
        Self {
            scheme: Scheme::Dpop.name().to_owned(),
            params: vec![("algs".to_owned(), algorithms)],
        }
    }

    /// The first parameter of that name; names are compared without regard to case.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// Adds a parameter. `name` is a token of RFC 9110 §5.6.2.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// The `error` parameter (RFC 6750 §3.1).
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// Whether it asks for an access token: its scheme is `Bearer` or `DPoP`, in whatever case.
    pub fn is_for_tokens(&self) -> bool {
        [Scheme::Bearer, Scheme::Dpop]
            .iter()
            .any(|scheme| self.scheme.eq_ignore_ascii_case(scheme.name()))
    }

    /// The error of this challenge, if it asks for a proof and not for another token (RS-10; RFC
    /// 9449 §7.1, §9). Only in a challenge of the schemes `Bearer` and `DPoP`: what another scheme
    /// means by `error` is unknown.
    pub fn binding_error(&self) -> Option<BindingError> {
        let error = self.error().filter(|_| self.is_for_tokens())?;
        BindingError::ALL
            .into_iter()
            .find(|known| known.as_str() == error)
    }

    /// The field value, every parameter as a quoted string.
    ///
    /// A character that a field may not contain (anything but printable ASCII) is written as `?`.
    pub fn header_value(&self) -> HeaderValue {
        let mut text = self.scheme.clone();
        for (index, (name, value)) in self.params.iter().enumerate() {
            text.push_str(if index == 0 { " " } else { ", " });
            text.push_str(name);
            text.push_str("=\"");
            for character in value.chars() {
                if matches!(character, '"' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            text.push('"');
        }
        let printable = text.replace(|c: char| c != ' ' && !c.is_ascii_graphic(), "?");
        HeaderValue::try_from(printable).expect("printable ASCII")
    }
}

/// The `error` of a challenge that asks for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BindingError {
    /// A session-binding proof is missing (RS-10).
    UseSessionBinding,
    /// A session-binding proof was refused (RS-10).
    InvalidProof,
    /// A DPoP proof needs a nonce of this server, or a newer one (RFC 9449 §8, §9).
    UseDpopNonce,
    /// A DPoP proof was refused (RFC 9449 §7.1).
    InvalidDpopProof,
}

impl BindingError {
    const ALL: [Self; 4] = [
        Self::UseSessionBinding,
        Self::InvalidProof,
        Self::UseDpopNonce,
        Self::InvalidDpopProof,
    ];

    /// The error as the challenge writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UseSessionBinding => "use_session_binding",
            Self::InvalidProof => "invalid_proof",
            Self::UseDpopNonce => "use_dpop_nonce",
            Self::InvalidDpopProof => "invalid_dpop_proof",
        }
    }

    /// Whether it is about a DPoP proof, and not about a session-binding proof.
    pub fn is_dpop(self) -> bool {
        matches!(self, Self::UseDpopNonce | Self::InvalidDpopProof)
    }
}

//! `WWW-Authenticate`, read and written (RFC 9110 §11.6.1, RFC 6750 §3).

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use http_auth::parser::ChallengeParser;

use crate::{Algorithm, Scheme};

/// Longer field values are skipped unread.
const MAX_FIELD_BYTES: usize = 8 * 1024;

/// Further challenges are left out.
const MAX_CHALLENGES: usize = 32;

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The authentication scheme, as it was written.
    pub scheme: String,
    /// Names, as they were written, and unescaped values, in order.
    pub params: Vec<(String, String)>,
}

/// All challenges of a response, in order.
///
/// A challenge that does not parse is skipped, with whatever follows it in the same field value,
/// where nothing could say where the next one starts. The `token68` form, which no bearer-like
/// scheme uses, counts as such. At most 32 challenges are read, and no field value over 8 KiB.
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter(|value| value.len() <= MAX_FIELD_BYTES)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| ChallengeParser::new(value).map_while(Result::ok))
        .take(MAX_CHALLENGES)
        .map(|parsed| Challenge {
            scheme: parsed.scheme.to_owned(),
            params: parsed
                .params
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_unescaped()))
                .collect(),
        })
        .collect()
}

impl Challenge {
    /// A `Bearer` challenge without parameters (RFC 6750 §3).
    pub fn bearer() -> Self {
        Self {
            scheme: Scheme::Bearer.name().to_owned(),
            params: Vec::new(),
        }
    }

    /// A `DPoP` challenge that names the algorithms in which proofs are taken (RFC 9449 §7.1).
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

    /// The same with one more parameter. `name` is a token of RFC 9110 §5.6.2.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }

    /// The `error` parameter (RFC 6750 §3.1).
    pub fn error(&self) -> Option<&str> {
        self.param("error")
    }

    /// The field value, every parameter as a quoted string.
    ///
    /// A character that may not stand in a field (anything but printable ASCII) is written as `?`.
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

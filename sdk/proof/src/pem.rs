//! PEM (RFC 7468): the one reader of certificates and private keys, for both ends.
//!
//! As many items come out as `-----BEGIN` went in, or an error that says which one is missing and
//! why: a trust bundle of which one authority cannot be read must not go on with one less. Text
//! between items is passed over (RFC 7468 §2), a byte order mark and white space around lines too.
//!
//! No error quotes the text, and none has a source: a parser's own error would quote its input, and
//! the input may be a private key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const MAX_LABEL: usize = 32;

/// Why PEM text cannot be used. It names the item, never its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PemError(String);

/// All certificates of a PEM text, in order. Private keys in the same text are passed over.
///
/// # Errors
/// There is no certificate, or an item is neither a readable certificate nor a private key.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let items = items(text)?;
    let mut certificates = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match item.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let der = item.decode(at)?.to_vec();
                if X509Certificate::from_der(&der).is_err() {
                    return Err(error(at, item.label, "it is not an X.509 certificate"));
                }
                certificates.push(CertificateDer::from(der));
            }
            label if label.ends_with("PRIVATE KEY") || label.ends_with("PARAMETERS") => {}
            label => {
                return Err(error(
                    at,
                    label,
                    "only CERTIFICATE is read, and nothing is left out",
                ));
            }
        }
    }
    if certificates.is_empty() {
        return Err(PemError(format!(
            "there is no certificate in PEM: {}",
            found(&items)
        )));
    }
    Ok(certificates)
}

/// The one private key of a PEM text: PKCS #8, PKCS #1 or SEC 1. Certificates in the same text are
/// passed over.
///
/// # Errors
/// There is no private key, more than one, an encrypted one, or one that cannot be read.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    let items = items(text)?;
    let mut keys = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.label.ends_with("PRIVATE KEY"));
    let Some((at, item)) = keys.next() else {
        return Err(PemError(format!(
            "there is no private key in PEM: {}",
            found(&items)
        )));
    };
    if keys.next().is_some() {
        return Err(PemError("there is more than one private key".to_owned()));
    }
    if item.label == "ENCRYPTED PRIVATE KEY" || item.is_encrypted() {
        return Err(error(
            at,
            item.label,
            "it is encrypted: decrypt it first, for example with `openssl pkey`",
        ));
    }
    let der = item.decode(at)?.to_vec();
    match item.label {
        "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(der).into()),
        "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(der).into()),
        "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(der).into()),
        label => Err(error(
            at,
            label,
            "keys of this kind are not read: convert it to PKCS #8 with `openssl pkey`",
        )),
    }
}

/// What stands between a BEGIN and an END line.
struct Item<'a> {
    label: &'a str,
    lines: Vec<&'a str>,
}

impl Item<'_> {
    fn decode(&self, at: usize) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let text = Zeroizing::new(self.lines.concat());
        let compact: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        match STANDARD.decode(compact.as_bytes()) {
            Ok(der) if !der.is_empty() => Ok(Zeroizing::new(der)),
            Ok(_) => Err(error(at, self.label, "it is empty")),
            Err(_) if compact.contains("\\n") => Err(error(
                at,
                self.label,
                "it has \\n in the text: its line ends were escaped",
            )),
            Err(_) => Err(error(at, self.label, "its content is not base64")),
        }
    }

    /// Encapsulated header fields of RFC 1421, which OpenSSL writes before an encrypted key.
    fn is_encrypted(&self) -> bool {
        self.lines.iter().any(|line| line.starts_with("Proc-Type:"))
    }
}

/// Each item of the text, complete.
fn items(text: &[u8]) -> Result<Vec<Item<'_>>, PemError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(PemError(
            "it is not text: DER, or UTF-16? It must be PEM, which is ASCII".to_owned(),
        ));
    };
    let lines = || text.split(['\n', '\r']).map(str::trim);
    let begun = lines()
        .filter(|line| boundary(line, BEGIN).is_some())
        .count();
    if begun != text.matches(BEGIN).count() {
        return Err(PemError(one_line(text)));
    }
    let mut items: Vec<Item<'_>> = Vec::new();
    let mut open = None;
    for line in lines() {
        if let Some(label) = boundary(line, BEGIN) {
            if open.is_some() {
                return Err(no_end(&items));
            }
            open = Some(label);
            items.push(Item {
                label,
                lines: Vec::new(),
            });
        } else if let Some(label) = boundary(line, END) {
            if open.take() != Some(label) {
                return Err(PemError(format!(
                    "an END {label} line has no BEGIN line of its own"
                )));
            }
        } else if let (Some(_), Some(item)) = (open, items.last_mut()) {
            item.lines.push(line);
        }
    }
    if open.is_some() {
        return Err(no_end(&items));
    }
    Ok(items)
}

/// The label of a boundary line that stands alone on its line, as it must (RFC 7468 §2). Labels have
/// capitals, digits and spaces only: so nothing of a mangled key passes for one.
fn boundary<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let label = line.strip_prefix(kind)?.strip_suffix(DASHES)?;
    let belongs = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
    (label.len() <= MAX_LABEL && label.chars().all(belongs)).then_some(label)
}

/// Why a BEGIN boundary does not stand alone on its line.
fn one_line(text: &str) -> String {
    let guess = if text.contains("\\n") {
        "it has \\n in the text: were its line ends escaped, as in an environment variable?"
    } else {
        "were its line ends lost, as when a variable is used without quotes?"
    };
    format!("a BEGIN line has more on it than itself: {guess}")
}

fn no_end(items: &[Item<'_>]) -> PemError {
    match items.last() {
        Some(item) => error(items.len() - 1, item.label, "its END line is missing"),
        None => PemError("an END line is missing".to_owned()),
    }
}

fn error(at: usize, label: &str, why: &str) -> PemError {
    PemError(format!("item {} ({label}): {why}", at + 1))
}

fn found(items: &[Item<'_>]) -> String {
    if items.is_empty() {
        return "it has no BEGIN line".to_owned();
    }
    let labels: Vec<_> = items.iter().map(|item| item.label).collect();
    format!("it has {}", labels.join(", "))
}

#[cfg(test)]
mod tests;

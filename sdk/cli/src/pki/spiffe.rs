//! SPIFFE IDs.

use rcgen::SanType;
use rcgen::string::Ia5String;

/// A SPIFFE ID (SPIFFE-ID §2), which goes into a certificate as its URI (X509-SVID §2).
#[derive(Clone, Debug)]
pub(crate) struct SpiffeId(Ia5String);

impl SpiffeId {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("{what}; a SPIFFE ID is spiffe://trust-domain/path");
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| bad("it does not begin with spiffe://"))?;
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let in_domain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
            return Err(bad(
                "the trust domain is 1 to 255 of a-z, 0-9, `.`, `-` and `_`",
            ));
        }
        let in_segment = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(in_segment);
        if !path.is_empty() && !path.split('/').skip(1).all(segment) {
            return Err(bad(
                "its path has a segment that is empty, `.` or `..`, or has other characters than \
                 letters, digits, `.`, `-` and `_`",
            ));
        }
        if text.len() > 2048 {
            return Err(bad("it is longer than 2048 bytes"));
        }
        Ia5String::try_from(text.to_owned())
            .map(Self)
            .map_err(|_| bad("it is not ASCII"))
    }

    pub(super) fn san(&self) -> SanType {
        SanType::URI(self.0.clone())
    }
}

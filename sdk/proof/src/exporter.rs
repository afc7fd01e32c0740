//! The exporter value: 32 bytes that only the two ends of one TLS connection can compute.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rustls::ConnectionCommon;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::encoding::{base64url, bytes32};

/// The exporter label, and the value of `cnf.tls_exp` (EX-1, TK-1).
pub const EXPORTER_LABEL: &str = "EXPORTER-oauth-tls-session-bound";

/// Keying material exported from a completed TLS handshake (EX-1): RFC 8446 §7.5, on TLS 1.2
/// RFC 5705.
///
/// Treat it as a secret (EX-7): it is cleared when dropped, never printed, and compared only in
/// constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ExporterValue([u8; 32]);

impl ExporterValue {
    /// Derives the value of `connection`; both ends get the same.
    ///
    /// The context is present and empty, which on TLS 1.2 differs from an absent one (EX-2). It
    /// comes from the completed handshake and never from the early exporter (EX-3), does not change
    /// with `KeyUpdate` (EX-4), and differs on each connection, resumed or not (EX-5).
    ///
    /// On TLS 1.2 the value is only unique to the connection with the extended master secret (RFC
    /// 7627). rustls does not tell afterwards whether that was negotiated: set `require_ems` in
    /// both ends' configurations (EX-2). Upstream:
    /// <https://github.com/rustls/rustls/pull/3083> (after 0.23) tells it.
    ///
    /// # Errors
    /// The handshake has not completed, or rustls refuses to export.
    pub fn derive<D>(connection: &ConnectionCommon<D>) -> Result<Self, ExporterError> {
        let mut value = Self([0; 32]);
        connection
            .export_keying_material(&mut value.0, EXPORTER_LABEL.as_bytes(), Some(&[]))
            .map_err(ExporterError)?;
        Ok(value)
    }

    /// A value that was derived elsewhere: by another TLS library, or written in a test vector.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether both are the same, in constant time (RS-6).
    pub fn matches(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// Reads the `ekm` claim (PR-5): 43 characters of base64url.
    pub(crate) fn from_claim(text: &str) -> Option<Self> {
        bytes32(text).map(|bytes| Self(*bytes))
    }

    /// Writes the `ekm` claim (PR-5).
    pub(crate) fn to_claim(&self) -> Zeroizing<String> {
        Zeroizing::new(base64url(&self.0))
    }
}

impl fmt::Debug for ExporterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExporterValue(redacted)")
    }
}

/// No exporter value could be derived.
#[derive(Debug, thiserror::Error)]
#[error("no exporter value: derive it after the TLS handshake has completed")]
pub struct ExporterError(#[source] rustls::Error);

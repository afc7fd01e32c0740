//! Why a stream did not become a connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use bowline_proof::{ExporterError, KeyError};

/// Why a stream did not become a connection.
#[derive(Debug)]
pub struct AcceptError(pub(super) Cause);

#[derive(Debug)]
pub(super) enum Cause {
    TimedOut(Duration),
    Displaced,
    Handshake(io::Error),
    ResumedCertificate(rustls::Error),
    ClientKey(KeyError),
    Exporter(ExporterError),
}

/// Why the accept failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptErrorKind {
    /// The peer did not finish the handshake in time.
    TimedOut,
    /// At the listener's limit this handshake was slow, and it was cancelled to admit another.
    Displaced,
    /// The peer closed or broke the connection during the handshake.
    Io,
    /// The two ends do not agree on TLS: no common parameters, or a certificate that is not
    /// accepted.
    Tls,
    /// A resumed session whose certificate is no longer valid or trusted, or a certificate whose
    /// roots were replaced during the handshake (RS-1).
    ResumedCertificate,
    /// The client's certificate holds a key that cannot sign proofs (PR-2).
    ClientKey,
    /// No exporter value could be derived (EX-1, EX-2).
    Exporter,
}

impl AcceptErrorKind {
    /// A short name in snake case, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Displaced => "displaced",
            Self::Io => "io",
            Self::Tls => "tls",
            Self::ResumedCertificate => "resumed_certificate",
            Self::ClientKey => "client_key",
            Self::Exporter => "exporter",
        }
    }
}

impl AcceptError {
    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> AcceptErrorKind {
        match &self.0 {
            Cause::TimedOut(_) => AcceptErrorKind::TimedOut,
            Cause::Displaced => AcceptErrorKind::Displaced,
            // tokio-rustls reports what rustls found as InvalidData.
            Cause::Handshake(error) if error.kind() == io::ErrorKind::InvalidData => {
                AcceptErrorKind::Tls
            }
            Cause::Handshake(_) => AcceptErrorKind::Io,
            Cause::ResumedCertificate(_) => AcceptErrorKind::ResumedCertificate,
            Cause::ClientKey(_) => AcceptErrorKind::ClientKey,
            Cause::Exporter(_) => AcceptErrorKind::Exporter,
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::TimedOut(limit) => write!(
                f,
                "the peer did not finish the TLS handshake within {limit:?}"
            ),
            Cause::Displaced => f.write_str(
                "the TLS handshake was cancelled: too many are pending, and this one was slow",
            ),
            Cause::Handshake(_) => f.write_str("the TLS handshake failed"),
            Cause::ResumedCertificate(_) => f.write_str(
                "RS-1: the client certificate, of a resumed TLS session or of one that began before \
                 the roots were replaced, no longer verifies",
            ),
            Cause::ClientKey(_) => {
                f.write_str("PR-2: the key of the client certificate cannot sign proofs")
            }
            Cause::Exporter(_) => {
                f.write_str("EX-1: no exporter value could be derived from the TLS connection")
            }
        }
    }
}

impl StdError for AcceptError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Cause::TimedOut(_) | Cause::Displaced => None,
            Cause::Handshake(error) => Some(error),
            Cause::ResumedCertificate(error) => Some(error),
            Cause::ClientKey(error) => Some(error),
            Cause::Exporter(error) => Some(error),
        }
    }
}

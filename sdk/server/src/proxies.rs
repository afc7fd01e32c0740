//! Trusted proxies that terminate the client's TLS and attest its certificate and exporter value
//! (GW-3). None is trusted unless configured.
//!
//! ```text
//! client ──TLS A──▶ proxy ──TLS B──▶ this server
//!
//! facts of B     the proxy's certificate, which decides whether the proxy is trusted
//! fields         Client-Cert and TLS-Exporter, in which the proxy describes A
//! token, proof   bound to the client's certificate and to A, never to B
//! ```

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bowline_proof::{ExporterValue, Thumbprint};
use http::{HeaderMap, HeaderName, HeaderValue};
use lru::LruCache;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::certificate::ClientCertificate;
use crate::proof_cache::ProofCache;
use crate::{ConnectionFacts, ReplayStore};

/// Proxies that attest the client's TLS connection (GW-3): its certificate (`Client-Cert`, RFC
/// 9440) and its exporter value (`TLS-Exporter`, draft -05). RS-3, RS-5 and RS-6 are then checked
/// against these, and what passes is of class
/// [`ProxyAttested`](crate::BindingClass::ProxyAttested), never session-bound: an attacker who
/// controls such a proxy, or its key, can attest anything.
///
/// A proxy is identified by the client certificate with which it connects to this server over
/// mutual TLS: by thumbprint, SPIFFE ID or subject. It must set both fields exactly once on each
/// request, and remove the ones that its clients send. A request with neither field is the proxy's
/// own and is checked like any other client's.
///
/// The two fields never reach the handler. If a peer that is not listed here sends them, they are
/// removed and ignored: they neither help nor harm it, and the request is checked by the facts of
/// its own connection.
///
/// Only the proxy knows how long the client's connection has existed, so a reusable proof may have
/// any age (RS-8); the exporter value limits it to that connection. Used `jti` values go to a
/// [`ReplayStore`], not to the cache of one connection, because a proxy may spread one client's
/// requests over several connections and nodes: nodes behind the same proxy must share the store
/// (RS-9).
pub struct TrustedProxies {
    thumbprints: HashSet<Thumbprint>,
    spiffe_ids: HashSet<String>,
    subjects: HashSet<String>,
    pub(crate) replay: Arc<dyn ReplayStore>,
    cached_connections: NonZeroUsize,
    connections: Mutex<LruCache<ConnectionKey, Arc<AttestedConnection>>>,
}

/// A hash of what was attested.
type ConnectionKey = [u8; 32];

/// A client's connection to a trusted proxy, as the proxy describes it.
pub(crate) struct AttestedConnection {
    pub(crate) key: ConnectionKey,
    pub(crate) certificate: Arc<ClientCertificate>,
    pub(crate) exporter: ExporterValue,
    pub(crate) proofs: ProofCache,
}

impl TrustedProxies {
    /// No proxies yet. `replay` stores the `jti` values that come through them.
    pub fn new(replay: impl ReplayStore) -> Self {
        Self {
            thumbprints: HashSet::new(),
            spiffe_ids: HashSet::new(),
            subjects: HashSet::new(),
            replay: Arc::new(replay),
            cached_connections: NonZeroUsize::new(4096).expect("4096 is not 0"),
            // `lookup` enforces the bound. With `LruCache::new` lru would reserve all of it at
            // once.
            connections: Mutex::new(LruCache::unbounded()),
        }
    }

    /// The proxy with this certificate.
    #[must_use]
    pub fn thumbprint(mut self, thumbprint: Thumbprint) -> Self {
        self.thumbprints.insert(thumbprint);
        self
    }

    /// Proxies whose certificate has exactly this SPIFFE ID.
    #[must_use]
    pub fn spiffe_id(mut self, id: impl Into<String>) -> Self {
        self.spiffe_ids.insert(id.into());
        self
    }

    /// Proxies whose certificate has exactly this subject, as [`ClientCertificate::subject`] writes
    /// it: `CN=gateway,O=Example`. Use it only if no client can get a certificate with such a
    /// subject from the same authorities.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subjects.insert(subject.into());
        self
    }

    /// For how many client connections the parsed certificate and the proofs that passed are
    /// cached. Default: 4,096. Beyond that, the least recently used one is dropped, then parsed and
    /// verified again when it is next used.
    #[must_use]
    pub fn cached_connections(mut self, connections: NonZeroUsize) -> Self {
        self.cached_connections = connections;
        self
    }

    fn is_trusted(&self, certificate: &ClientCertificate) -> bool {
        self.thumbprints.contains(&certificate.thumbprint())
            || certificate
                .spiffe_id()
                .is_some_and(|id| self.spiffe_ids.contains(id))
            || !certificate.subject().is_empty() && self.subjects.contains(certificate.subject())
    }

    /// The client's connection that a trusted proxy attests on this request, if it attests one.
    ///
    /// # Errors
    /// The fields are malformed. The request must not be treated as the proxy's own.
    pub(crate) fn attested_connection(
        &self,
        forwarded: &ForwardedFields,
        facts: &ConnectionFacts,
    ) -> Result<Option<Arc<AttestedConnection>>, &'static str> {
        let proxy = facts
            .certificate()
            .filter(|certificate| self.is_trusted(certificate));
        match (proxy, forwarded) {
            (None, _) | (_, ForwardedFields::Absent) => Ok(None),
            (
                Some(_),
                ForwardedFields::Complete {
                    certificate,
                    exporter,
                },
            ) => self.lookup(certificate, exporter).map(Some),
            (Some(_), ForwardedFields::Malformed) => {
                Err("GW-3: the trusted proxy must send Client-Cert and TLS-Exporter, each once")
            }
        }
    }

    /// The parsed attestation: parsed once per client connection, then cached.
    fn lookup(
        &self,
        certificate: &HeaderValue,
        exporter: &HeaderValue,
    ) -> Result<Arc<AttestedConnection>, &'static str> {
        let key = connection_key(certificate, exporter);
        let table = || {
            self.connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = table().get(&key) {
            return Ok(known.clone());
        }
        let der = byte_sequence(certificate)
            .ok_or("GW-3: Client-Cert is not a byte sequence (RFC 9440)")?;
        let certificate = ClientCertificate::new(CertificateDer::from(der.to_vec()))
            .map_err(|_| "GW-3: Client-Cert holds no certificate whose key can sign proofs")?;
        let attested = Arc::new(AttestedConnection {
            key,
            certificate: Arc::new(certificate),
            exporter: exporter_value(exporter)
                .ok_or("GW-3: TLS-Exporter does not hold 32 bytes")?,
            proofs: ProofCache::new(),
        });
        let mut table = table();
        // If two requests parse it at once, they share one proof cache.
        let attested = table.get_or_insert(key, || attested).clone();
        if table.len() > self.cached_connections.get() {
            table.pop_lru();
        }
        Ok(attested)
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedProxies")
            .field("thumbprints", &self.thumbprints)
            .field("spiffe_ids", &self.spiffe_ids)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const TLS_EXPORTER: HeaderName = HeaderName::from_static("tls-exporter");
/// What an ingress sidecar sets for the service behind it (GW-2). The service trusts it, so no
/// other peer may set it.
const SESSION_BINDING_VERIFIED: HeaderName = HeaderName::from_static("session-binding-verified");

/// The fields of a request that describe a TLS connection other than its own. It has no `Debug`,
/// because it holds the exporter value (EX-7).
pub(crate) enum ForwardedFields {
    Absent,
    Complete {
        certificate: HeaderValue,
        exporter: HeaderValue,
    },
    /// Only one of the two, or one of them several times.
    Malformed,
}

impl ForwardedFields {
    /// Removes the fields from any request, because a handler might trust them.
    pub(crate) fn strip(headers: &mut HeaderMap) -> Self {
        // Comparing each name once costs a fraction of four lookups, and most requests have none of
        // these.
        const ALL: [HeaderName; 4] = [
            CLIENT_CERT,
            CLIENT_CERT_CHAIN,
            TLS_EXPORTER,
            SESSION_BINDING_VERIFIED,
        ];
        if !headers.keys().any(|name| ALL.contains(name)) {
            return Self::Absent;
        }
        headers.remove(CLIENT_CERT_CHAIN);
        headers.remove(SESSION_BINDING_VERIFIED);
        let several = [CLIENT_CERT, TLS_EXPORTER].iter().any(|name| {
            let mut fields = headers.get_all(name).iter();
            fields.next().is_some() && fields.next().is_some()
        });
        match (headers.remove(CLIENT_CERT), headers.remove(TLS_EXPORTER)) {
            (None, None) => Self::Absent,
            (Some(certificate), Some(exporter)) if !several => Self::Complete {
                certificate,
                exporter,
            },
            _ => Self::Malformed,
        }
    }
}

fn connection_key(certificate: &HeaderValue, exporter: &HeaderValue) -> ConnectionKey {
    let mut hash = Context::new(&SHA256);
    // The length separates the two.
    hash.update(&(certificate.len() as u64).to_be_bytes());
    hash.update(certificate.as_bytes());
    hash.update(exporter.as_bytes());
    let mut key = ConnectionKey::default();
    key.copy_from_slice(hash.finish().as_ref());
    key
}

/// A byte sequence as RFC 9651 section 3.3.5 writes it, padded or not (section 4.2.7), without
/// parameters.
fn byte_sequence(field: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let inner = field
        .as_bytes()
        .trim_ascii()
        .strip_prefix(b":")?
        .strip_suffix(b":")?;
    LENIENT.decode(inner).ok().map(Zeroizing::new)
}

/// 32 bytes, as a byte sequence or, like `ekm`, in base64url.
fn exporter_value(field: &HeaderValue) -> Option<ExporterValue> {
    let bytes = byte_sequence(field).or_else(|| {
        URL_SAFE_NO_PAD
            .decode(field.as_bytes().trim_ascii())
            .ok()
            .map(Zeroizing::new)
    })?;
    bytes
        .as_slice()
        .try_into()
        .ok()
        .map(ExporterValue::from_bytes)
}

#[cfg(test)]
mod tests;

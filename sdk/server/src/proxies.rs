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
use crate::{ConnectionFacts, ReplayStore, reserved_fields};

/// Proxies that attest the client's TLS connection (GW-3): its certificate (`Client-Cert`, RFC
/// 9440) and its exporter value (`TLS-Exporter`, draft -05). RS-3, RS-5 and RS-6 are then checked
/// against these, and what passes is of class
/// [`ProxyAttested`](crate::BindingClass::ProxyAttested), never session-bound: an attacker who
/// controls such a proxy, or its key, can attest anything.
///
/// A proxy is named by the client certificate with which it connects to this server over mutual
/// TLS: by thumbprint, SPIFFE ID or subject. A SPIFFE ID or a subject is believed of *every*
/// authority among the roots for clients: name a proxy by one only if none of them would issue it
/// to another, or else by its thumbprint.
///
/// It must set both fields exactly once on each request, and remove the ones that its clients send
/// (also with `_` for `-`). A request without them is refused, unless the proxy is
/// [named](Self::own_requests_of) as one that also speaks for itself: a proxy that sets the fields
/// only if its client has a certificate would otherwise lend its own identity to the others.
///
/// What they attest passes only with
/// [`accept_proxy_attested`](crate::BindingLayer::accept_proxy_attested), which goes with every
/// policy.
///
/// Whatever comes through a proxy must carry a proof, under every policy: a session-binding proof,
/// or the DPoP proof of a DPoP-bound token. See
/// [`accept_certificates_without_proof`](Self::accept_certificates_without_proof).
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
    named: HashSet<ProxyName>,
    /// Those that also speak for themselves.
    own_requests: HashSet<ProxyName>,
    pub(crate) certificates_without_proof: bool,
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

/// How a proxy is named, by the certificate with which it connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyName {
    /// The certificate itself.
    Thumbprint(Thumbprint),
    /// Its SPIFFE ID.
    SpiffeId(String),
    /// Its subject, as [`ClientCertificate::subject`] writes it.
    Subject(String),
}

fn is_named(names: &HashSet<ProxyName>, proxy: &ClientCertificate) -> bool {
    names.iter().any(|name| match name {
        ProxyName::Thumbprint(thumbprint) => *thumbprint == proxy.thumbprint(),
        ProxyName::SpiffeId(id) => Some(&**id) == proxy.spiffe_id(),
        ProxyName::Subject(subject) => !subject.is_empty() && subject == proxy.subject(),
    })
}

impl TrustedProxies {
    /// No proxies yet. `replay` stores the `jti` values that come through them.
    pub fn new(replay: impl ReplayStore) -> Self {
        Self {
            named: HashSet::new(),
            own_requests: HashSet::new(),
            certificates_without_proof: false,
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
        self.named.insert(ProxyName::Thumbprint(thumbprint));
        self
    }

    /// Proxies whose certificate has exactly this SPIFFE ID. Use it only if none of the authorities
    /// that issue clients' certificates would put it into another's: the trust domain is not tied
    /// to an authority.
    #[must_use]
    pub fn spiffe_id(mut self, id: impl Into<String>) -> Self {
        self.named.insert(ProxyName::SpiffeId(id.into()));
        self
    }

    /// Proxies whose certificate has exactly this subject, as [`ClientCertificate::subject`] writes
    /// it: `CN=gateway,O=Example`. Use it only if no client can get a certificate with such a
    /// subject from the same authorities.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.named.insert(ProxyName::Subject(subject.into()));
        self
    }

    /// This proxy, which is named as one already, also sends requests of its own: one with neither
    /// field is checked like that of any other client, by the proxy's certificate. Default: no
    /// proxy does. Only for a proxy that sets the fields on *every* request that it passes on, also
    /// for clients without a certificate.
    #[must_use]
    pub fn own_requests_of(mut self, proxy: ProxyName) -> Self {
        self.own_requests.insert(proxy);
        self
    }

    /// Whether a certificate-bound token (RFC 8705) passes through a proxy without a proof.
    /// Default: no. Then nothing but the proxy's word says that the client has the certificate's
    /// key: it rests on the proxy removing the fields that its clients send, in every spelling, on
    /// every route.
    #[must_use]
    pub fn accept_certificates_without_proof(mut self, accepted: bool) -> Self {
        self.certificates_without_proof = accepted;
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

    /// The client's connection that a trusted proxy attests on this request, if it attests one.
    ///
    /// # Errors
    /// The fields are malformed. The request must not be treated as the proxy's own.
    pub(crate) fn attested_connection(
        &self,
        forwarded: &ForwardedFields,
        facts: &ConnectionFacts,
    ) -> Result<Option<Arc<AttestedConnection>>, &'static str> {
        let Some(proxy) = facts.certificate() else {
            return Ok(None);
        };
        if !is_named(&self.named, proxy) {
            return Ok(None);
        }
        match forwarded {
            ForwardedFields::Absent if is_named(&self.own_requests, proxy) => Ok(None),
            ForwardedFields::Complete {
                certificate,
                exporter,
            } => self.lookup(certificate, exporter).map(Some),
            ForwardedFields::Absent | ForwardedFields::Malformed => {
                Err("GW-3: the trusted proxy must send Client-Cert and TLS-Exporter, each once")
            }
        }
    }

    /// The attestation. Its certificate is parsed once per client connection, then cached.
    fn lookup(
        &self,
        certificate: &HeaderValue,
        exporter: &HeaderValue,
    ) -> Result<Arc<AttestedConnection>, &'static str> {
        let der = byte_sequence(certificate)
            .ok_or("GW-3: Client-Cert is not a byte sequence (RFC 9440)")?;
        let exporter =
            exporter_bytes(exporter).ok_or("GW-3: TLS-Exporter does not hold 32 bytes")?;
        let key = connection_key(&der, &exporter);
        let table = || {
            self.connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = table().get(&key) {
            return Ok(known.clone());
        }
        let certificate = ClientCertificate::new(CertificateDer::from(der.to_vec()))
            .map_err(|_| "GW-3: Client-Cert holds no certificate whose key can sign proofs")?;
        let attested = Arc::new(AttestedConnection {
            key,
            certificate: Arc::new(certificate),
            exporter: ExporterValue::from_bytes(*exporter),
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
            .field("named", &self.named)
            .field("own_requests", &self.own_requests)
            .field(
                "certificates_without_proof",
                &self.certificates_without_proof,
            )
            .finish_non_exhaustive()
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const TLS_EXPORTER: HeaderName = HeaderName::from_static("tls-exporter");

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
    /// Removes them and all other reserved fields from any request (GW-2).
    pub(crate) fn strip(headers: &mut HeaderMap) -> Self {
        // Most requests have none: one pass over the names tells that without a look-up for each.
        if !reserved_fields::has_any(headers) {
            return Self::Absent;
        }
        let forwarded = Self::read(headers);
        reserved_fields::strip(headers);
        forwarded
    }

    fn read(headers: &HeaderMap) -> Self {
        let once = |name: &HeaderName| {
            let mut fields = headers.get_all(name).iter();
            (fields.next().cloned(), fields.next().is_some())
        };
        match (once(&CLIENT_CERT), once(&TLS_EXPORTER)) {
            ((None, _), (None, _)) => Self::Absent,
            ((Some(certificate), false), (Some(exporter), false)) => Self::Complete {
                certificate,
                exporter,
            },
            _ => Self::Malformed,
        }
    }
}

/// By the bytes and not by the text: two spellings of the same certificate or exporter value are
/// one connection (GW-3), with one set of used `jti` values (RS-9).
fn connection_key(certificate: &[u8], exporter: &[u8; 32]) -> ConnectionKey {
    let mut hash = Context::new(&SHA256);
    // It has a fixed length, so two different pairs never give the same bytes.
    hash.update(exporter);
    hash.update(certificate);
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
fn exporter_bytes(field: &HeaderValue) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = byte_sequence(field).or_else(|| {
        URL_SAFE_NO_PAD
            .decode(field.as_bytes().trim_ascii())
            .ok()
            .map(Zeroizing::new)
    })?;
    bytes.as_slice().try_into().ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests;

//! Proxies that terminate the client's TLS and are believed about it (GW-3). Off unless a
//! deployment names them.

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

/// Proxies whose word about the client's TLS connection is taken (GW-3): its certificate
/// (`Client-Cert`, RFC 9440) and its exporter value (`TLS-Exporter`, draft -05). RS-3, RS-5 and
/// RS-6 are then checked against these, and what passes is of class
/// [`ProxyAttested`](crate::BindingClass::ProxyAttested), never session-bound: whoever controls
/// such a proxy, or its key, can attest whatever he likes.
///
/// A proxy is known by the client certificate with which it connects to this server, in mutual TLS:
/// by thumbprint, SPIFFE ID or subject. It must set both fields on each request, once each, and
/// remove those that its clients send. A request of its own, with neither, is checked like any
/// other client's.
///
/// The two fields never reach the handler, whoever sent them. From anybody who is not named here
/// they are otherwise ignored: they change nothing about the request, so they give nobody anything,
/// and a client behind a careless proxy is checked by its own connection.
///
/// How long the client's connection has existed only the proxy knows, so a reusable proof may be of
/// any age (RS-8): the exporter dates it. `jti` values go to a [`ReplayStore`] and not to the
/// memory of one connection, because a proxy may spread one client's requests over several
/// connections and nodes: nodes behind the same proxy must share it (RS-9).
pub struct TrustedProxies {
    thumbprints: HashSet<Thumbprint>,
    spiffe_ids: HashSet<String>,
    subjects: HashSet<String>,
    pub(crate) replay: Arc<dyn ReplayStore>,
    remembered_connections: NonZeroUsize,
    connections: Mutex<LruCache<ConnectionKey, Arc<AttestedConnection>>>,
}

/// A hash of what was attested.
type ConnectionKey = [u8; 32];

/// A client's connection to a trusted proxy, as that describes it.
pub(crate) struct AttestedConnection {
    pub(crate) key: ConnectionKey,
    pub(crate) certificate: Arc<ClientCertificate>,
    pub(crate) exporter: ExporterValue,
    pub(crate) proofs: ProofCache,
}

impl TrustedProxies {
    /// None yet. `replay` remembers the `jti` values that came through them.
    pub fn new(replay: impl ReplayStore) -> Self {
        Self {
            thumbprints: HashSet::new(),
            spiffe_ids: HashSet::new(),
            subjects: HashSet::new(),
            replay: Arc::new(replay),
            remembered_connections: NonZeroUsize::new(4096).expect("4096 is not 0"),
            // Bounded by `lookup`: lru would reserve the whole bound at once.
            connections: Mutex::new(LruCache::unbounded()),
        }
    }

    /// The proxy with this certificate.
    #[must_use]
    pub fn thumbprint(mut self, thumbprint: Thumbprint) -> Self {
        self.thumbprints.insert(thumbprint);
        self
    }

    /// Proxies whose certificate has this SPIFFE ID, letter by letter.
    #[must_use]
    pub fn spiffe_id(mut self, id: impl Into<String>) -> Self {
        self.spiffe_ids.insert(id.into());
        self
    }

    /// Proxies whose certificate has this subject, letter by letter as
    /// [`ClientCertificate::subject`] writes it: `CN=gateway,O=Example`. Only where no client can
    /// get a certificate with such a subject from the same authorities.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subjects.insert(subject.into());
        self
    }

    /// For how many of the clients' connections the parsed certificate and the proofs that passed
    /// are remembered. Default: 4,096. Beyond, the least recently used one is read and verified
    /// again when it comes back.
    #[must_use]
    pub fn remembered_connections(mut self, connections: NonZeroUsize) -> Self {
        self.remembered_connections = connections;
        self
    }

    fn is_trusted(&self, certificate: &ClientCertificate) -> bool {
        self.thumbprints.contains(&certificate.thumbprint())
            || certificate
                .spiffe_id()
                .is_some_and(|id| self.spiffe_ids.contains(id))
            || !certificate.subject().is_empty() && self.subjects.contains(certificate.subject())
    }

    /// What a trusted proxy says of the client's connection, if it says anything.
    ///
    /// # Errors
    /// It says so in a way that cannot be understood, which is no reason to take the request for
    /// the proxy's own.
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

    /// Parses once for each connection of a client.
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
        // Of two that come at once, one memory stays.
        let attested = table.get_or_insert(key, || attested).clone();
        if table.len() > self.remembered_connections.get() {
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
/// What an ingress sidecar tells the service behind it (GW-2): believed there, so nobody else may
/// say it.
const SESSION_BINDING_VERIFIED: HeaderName = HeaderName::from_static("session-binding-verified");

/// What a request says about another TLS connection than its own. It has no `Debug`: the exporter
/// value is in it (EX-7).
pub(crate) enum ForwardedFields {
    Absent,
    Complete {
        certificate: HeaderValue,
        exporter: HeaderValue,
    },
    /// One without the other, or one several times.
    Malformed,
}

impl ForwardedFields {
    /// Takes the fields off a request, whoever sent it: a handler may take them for the truth.
    pub(crate) fn strip(headers: &mut HeaderMap) -> Self {
        // One look at each name costs a fraction of looking each of these up, and most requests
        // have none.
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
    // The length keeps the two apart.
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

/// 32 bytes, as a byte sequence or, as `ekm` has them, in base64url.
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

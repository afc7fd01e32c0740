//! The TLS side: one rustls configuration per identity, and what the server requested in it (CL-9).

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bowline_proof::pem;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::config::HttpVersions;
use crate::conn::identity::{Identity, provider, read_file};
use crate::error::{Error, ErrorKind};

/// Which servers to trust.
#[derive(Clone, Debug, Default)]
pub struct Trust(Roots);

#[derive(Clone, Debug, Default)]
enum Roots {
    #[default]
    Platform,
    Own(Arc<RootCertStore>),
}

impl Trust {
    /// The operating system's own verifier (the default).
    pub fn platform() -> Self {
        Self(Roots::Platform)
    }

    /// Only the certificate authorities in a PEM file. Errors name the file.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the file, or a certificate in it, cannot be read, or it
    /// holds none.
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::from_named_pem(&read_file(path)?, &path.display().to_string())
    }

    /// Only the certificate authorities in PEM text.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if a certificate cannot be read, or there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        Self::from_named_pem(pem, "the PEM text")
    }

    fn from_named_pem(text: &[u8], name: &str) -> Result<Self, Error> {
        let roots = pem::certificates(text).map_err(|e| {
            let message = format!("cannot read certificate authorities from {name}: {e}");
            Error::new(ErrorKind::Configuration, message)
        })?;
        Self::from_der(roots)
    }

    /// Only these certificate authorities.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if there is none, or one that cannot be a trust anchor.
    pub fn from_der(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for (index, root) in roots.into_iter().enumerate() {
            store.add(root).map_err(|e| {
                let message = format!("certificate authority {} cannot be used", index + 1);
                Error::with_source(ErrorKind::Configuration, message, e)
            })?;
        }
        if store.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "no certificate authority was given",
            ));
        }
        Ok(Self(Roots::Own(Arc::new(store))))
    }
}

/// Any set of trust anchors that rustls can hold.
impl From<Arc<RootCertStore>> for Trust {
    fn from(roots: Arc<RootCertStore>) -> Self {
        Self(Roots::Own(roots))
    }
}

/// The configuration from which each origin's is cloned.
pub(crate) fn template(
    trust: &Trust,
    identity: Option<&Arc<Identity>>,
    http: HttpVersions,
) -> Result<ClientConfig, Error> {
    let bad = |e: rustls::Error| {
        Error::with_source(
            ErrorKind::Configuration,
            "the TLS configuration cannot be made",
            e,
        )
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(bad)?;
    let builder = match &trust.0 {
        Roots::Platform => builder.with_platform_verifier().map_err(bad)?,
        Roots::Own(roots) => builder.with_root_certificates(roots.clone()),
    };
    let mut config = builder.with_client_cert_resolver(Arc::new(RecordingResolver {
        key: identity.map(|identity| identity.certified()),
    }));
    config.require_ems = true; // EX-2
    config.enable_early_data = false; // EX-3
    // Nothing connects with the template; its own session store would take 100 KiB and more.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match http {
        HttpVersions::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
        HttpVersions::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// One origin's configuration: the template's verifier and certificate resolver, and a session
/// store of its own.
///
/// rustls files tickets by host name alone. A store per origin keeps a ticket from crossing ports,
/// so that a resumed session inherits the certificate answer of *its* origin's last full handshake
/// (CL-9).
/// Upstream: <https://github.com/rustls/rustls/issues/2196>.
pub(crate) fn for_origin(template: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = template.clone();
    config.resumption = Resumption::in_memory_sessions(16);
    Arc::new(config)
}

/// The same configuration for one full handshake, whose tickets nobody will use.
pub(crate) fn without_resumption(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// What happened to the client certificate in one full handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CertificateRequest {
    /// The resolver was not called.
    No = 0,
    /// It was, and gave a certificate.
    Presented = 1,
    /// It was, and had nothing that fits.
    NothingFits = 2,
}

tokio::task_local! {
    static CERTIFICATE_REQUEST: Cell<CertificateRequest>;
}

/// Runs a handshake and returns the certificate request that the resolver saw in it. rustls gives
/// the resolver no connection to note that on, but calls it on the task that drives the handshake.
/// Upstream: no issue; request 16 in `docs/src/upstream.md`.
pub(crate) async fn record_certificate_request<F: Future>(
    handshake: F,
) -> (F::Output, CertificateRequest) {
    CERTIFICATE_REQUEST
        .scope(Cell::new(CertificateRequest::No), async {
            let output = handshake.await;
            (output, CERTIFICATE_REQUEST.with(Cell::get))
        })
        .await
}

/// The answer of an origin's full handshakes, as a set of bits: one for each answer that was given.
#[derive(Debug, Default)]
pub(crate) struct LastCertificateRequest(AtomicU8);

impl LastCertificateRequest {
    pub(crate) fn store(&self, request: CertificateRequest) {
        self.0.fetch_or(1 << request as u8, Ordering::AcqRel);
    }

    /// Whether full handshakes have had different answers: then nobody knows which of them issued a
    /// ticket (CL-9).
    pub(crate) fn has_varied(&self) -> bool {
        self.0.load(Ordering::Acquire).count_ones() > 1
    }

    /// The answer, while it has not varied.
    pub(crate) fn load(&self) -> CertificateRequest {
        match self.0.load(Ordering::Acquire) {
            0b010 => CertificateRequest::Presented,
            0b100 => CertificateRequest::NothingFits,
            _ => CertificateRequest::No,
        }
    }
}

/// The certificate resolver: presents the identity, and notes that it was asked.
#[derive(Debug)]
struct RecordingResolver {
    key: Option<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for RecordingResolver {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self
            .key
            .as_ref()
            .filter(|key| key.key.choose_scheme(schemes).is_some())
            .cloned();
        let request = if key.is_some() {
            CertificateRequest::Presented
        } else {
            CertificateRequest::NothingFits
        };
        // Outside `record_certificate_request` nothing is to be recorded.
        let _ = CERTIFICATE_REQUEST.try_with(|cell| cell.set(request));
        key
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

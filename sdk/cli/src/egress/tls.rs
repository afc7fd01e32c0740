//! Callers that are known by their certificates: the listener ends mutual TLS (GW-5).
//!
//! It adds nothing to TLS: handshakes, places and limits are those of `bowline_server`. Nor does it
//! tell an origin who called.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bowline::server::{
    ClientAuth, ClientCertificate, Connection, ConnectionFacts, ProxyName, ServerTls, Trust,
};
use clap::Args;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use http::StatusCode;

use super::address::Address;
use super::names::{self, HostPort};
use super::refused::Refused;
use crate::causes::with_causes;
use crate::failure::Failure;
use crate::ingress::certificate::ServerCertificate;
use crate::ingress::inputs::Inputs;
use crate::values::certificate_name;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Callers with mutual TLS")]
pub(crate) struct TlsOptions {
    /// The certificate chain that the listener shows, PEM: with it the listener ends mutual TLS, and
    /// may be beyond loopback. It goes with the next two
    #[arg(long, value_name = "FILE")]
    listen_cert: Option<PathBuf>,
    /// Its private key, PEM; others must not be able to read it
    #[arg(long, value_name = "FILE")]
    listen_key: Option<PathBuf>,
    /// The authorities of callers' certificates, PEM: every client with a certificate of theirs
    /// can send requests with this identity
    #[arg(long, value_name = "FILE")]
    listen_client_ca: Option<PathBuf>,
    /// The only callers among them that can, by their certificate: its thumbprint, SPIFFE ID, or
    /// subject (`CN=agent,O=Example`) (repeatable) [default: all]
    #[arg(long, value_name = "THUMBPRINT|spiffe://ID|SUBJECT")]
    listen_client: Vec<String>,
    /// A name by which callers reach the listener with --upstream, if it is none of its certificate's
    /// with the listening port; without a port 443 (repeatable)
    #[arg(long, value_name = "HOST[:PORT]")]
    listen_name: Vec<String>,
}

impl TlsOptions {
    /// The files that they name.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = [&self.listen_cert, &self.listen_key, &self.listen_client_ca];
        files.into_iter().flatten()
    }

    /// Certificate, key and authorities.
    ///
    /// # Errors
    /// One of them is missing, or the others have no effect.
    fn all(&self) -> Result<Option<[&Path; 3]>, Failure> {
        let options = [
            ("--listen-cert", &self.listen_cert),
            ("--listen-key", &self.listen_key),
            ("--listen-client-ca", &self.listen_client_ca),
        ];
        if let [(_, Some(cert)), (_, Some(key)), (_, Some(client_ca))] = &options {
            return Ok(Some([cert, key, client_ca]));
        }
        let is_begun = options.iter().any(|(_, file)| file.is_some());
        let others = [
            ("--listen-client", self.listen_client.is_empty()),
            ("--listen-name", self.listen_name.is_empty()),
        ];
        let other = others.iter().find(|(_, is_empty)| !is_empty);
        let missing = options.iter().find(|(_, file)| file.is_none());
        match (missing, other) {
            (Some((missing, _)), _) if is_begun => Err(Failure::usage(format!(
                "{missing} is missing: --listen-cert, --listen-key and --listen-client-ca go together"
            ))),
            (_, Some((other, _))) => Err(Failure::usage(format!(
                "{other} has no effect without --listen-cert, --listen-key and --listen-client-ca"
            ))),
            _ => Ok(None),
        }
    }

    /// Whether the listener ends TLS.
    pub(crate) fn are_given(&self) -> bool {
        self.files().next().is_some()
    }
}

/// What a listener needs that ends mutual TLS.
pub(crate) struct CallerTls {
    pub(crate) tls: ServerTls,
    /// What `tls` was made from.
    pub(crate) inputs: Inputs,
    certificate: ServerCertificate,
    clients: Vec<ProxyName>,
    names: Vec<HostPort>,
}

impl CallerTls {
    /// Reads the files. `None`: the listener ends no TLS.
    ///
    /// # Errors
    /// What cannot be used; a listener beyond loopback that ends no TLS.
    pub(crate) fn new(options: &TlsOptions, listen: &Address) -> Result<Option<Self>, Failure> {
        let Some([cert, key, client_ca]) = options.all()? else {
            return match listen {
                Address::Tcp(at) if !at.ip().is_loopback() => Err(Failure::usage(format!(
                    "--listen {at}: beyond loopback every machine could use the key: give \
                     --listen-cert, --listen-key and --listen-client-ca, so that only callers with a \
                     certificate can, or listen on 127.0.0.1, [::1] or unix:PATH"
                ))),
                _ => Ok(None),
            };
        };
        if !matches!(listen, Address::Tcp(_)) {
            return Err(Failure::usage(format!(
                "--listen {listen} with --listen-cert: a Unix socket is for processes of this machine, \
                 and ends no TLS: leave --listen-cert, --listen-key and --listen-client-ca away, or \
                 listen on ADDRESS:PORT"
            )));
        }
        // Before they are read: what changes during that is seen by the next reload.
        let inputs = Inputs::of(&[], &[cert, key, client_ca]);
        let (certificate, identity) =
            ServerCertificate::with_key(("--listen-cert", cert), ("--listen-key", key))?;
        let trust = Trust::from_pem_file(client_ca).map_err(|error| {
            Failure::usage(format!("--listen-client-ca: {}", with_causes(&error)))
        })?;
        let tls = ServerTls::builder(identity, ClientAuth::Required(trust))
            .build()
            .map_err(|error| Failure::usage(format!("--listen-cert: {}", with_causes(&error))))?;
        Ok(Some(Self {
            tls,
            inputs,
            certificate,
            clients: clients(&options.listen_client)?,
            names: listed(&options.listen_name)?,
        }))
    }

    /// Who may call, and by which names, a listener with this address.
    pub(crate) fn certified(&self, at: SocketAddr) -> Certified {
        let mut names = self.names.clone();
        if at.ip().is_loopback() {
            names.extend(names::own_names(at.port()));
        }
        if !at.ip().is_unspecified() {
            names.extend(HostPort::parse(&at.to_string()));
        }
        let of_certificate = self.certificate.origins(at.port());
        let of_certificate = of_certificate.iter();
        names.extend(of_certificate.filter_map(|origin| {
            let origin = HostPort::from_origin(&origin.to_string());
            origin.ok()
        }));
        Certified {
            clients: self.clients.clone(),
            names,
        }
    }
}

fn clients(names: &[String]) -> Result<Vec<ProxyName>, Failure> {
    let names = names.iter().map(|name| {
        certificate_name(name).ok_or_else(|| {
            Failure::usage(format!(
                "--listen-client `{name}`: name the caller's certificate by its thumbprint (SHA-256, \
                 base64url), its SPIFFE ID, or its subject (CN=agent,O=Example)"
            ))
        })
    });
    names.collect()
}

fn listed(names: &[String]) -> Result<Vec<HostPort>, Failure> {
    let names = names.iter().map(|name| {
        HostPort::parse(name).ok_or_else(|| {
            Failure::usage(format!(
                "--listen-name `{name}`: write HOST or HOST:PORT, as callers have it in `Host`"
            ))
        })
    });
    names.collect()
}

/// Who may call a listener that ends TLS, and by which names.
#[derive(Default)]
pub(crate) struct Certified {
    /// Empty: every client whose certificate verifies.
    clients: Vec<ProxyName>,
    names: Vec<HostPort>,
}

impl Certified {
    /// The names of the listener.
    pub(crate) fn names(&self) -> &[HostPort] {
        &self.names
    }

    /// # Errors
    /// 403: configuration names other callers.
    pub(crate) fn check(&self, holder: &CertificateHolder) -> Result<(), Refused> {
        let is_it = |certificate: &ClientCertificate| {
            self.clients.is_empty() || self.clients.iter().any(|name| is_named(name, certificate))
        };
        match holder.facts.certificate() {
            Some(certificate) if is_it(certificate) => Ok(()),
            _ => Err(Refused::new(
                StatusCode::FORBIDDEN,
                "caller",
                format!(
                    "{} may not use this egress: --listen-client names those that may",
                    holder.name
                ),
            )),
        }
    }
}

fn is_named(name: &ProxyName, certificate: &ClientCertificate) -> bool {
    match name {
        ProxyName::Thumbprint(thumbprint) => *thumbprint == certificate.thumbprint(),
        ProxyName::SpiffeId(id) => Some(&**id) == certificate.spiffe_id(),
        ProxyName::Subject(subject) => subject == certificate.subject(),
        _ => false,
    }
}

/// A caller that has shown its certificate.
#[derive(Clone)]
pub(crate) struct CertificateHolder {
    facts: Arc<ConnectionFacts>,
    name: Arc<str>,
    end_wanted: Shared<BoxFuture<'static, ()>>,
}

impl CertificateHolder {
    pub(crate) fn of(connection: &Connection) -> Self {
        let facts = connection.facts().clone();
        let name = facts.certificate().map_or_else(String::new, name_of);
        Self {
            facts,
            name: name.into(),
            end_wanted: connection.end_wanted().map(|_| ()).boxed().shared(),
        }
    }

    /// For the log.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Completes when neither its connection nor what became of that may be used any more: its
    /// certificate is no longer valid or trusted, or a limit was reached.
    pub(crate) async fn end_wanted(&self) {
        self.end_wanted.clone().await;
    }
}

/// The SPIFFE ID, else the subject, else the thumbprint.
fn name_of(certificate: &ClientCertificate) -> String {
    match (certificate.spiffe_id(), certificate.subject()) {
        (Some(id), _) => id.to_owned(),
        (None, "") => certificate.thumbprint().to_string(),
        (None, subject) => subject.to_owned(),
    }
}

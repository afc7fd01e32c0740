//! The official client's own transports: reqwest for JSON-RPC and HTTP+JSON, a tonic channel for
//! gRPC, each with the agent's certificate.

use std::sync::Arc;

use a2a_client::Transport;
use a2a_client::jsonrpc::JsonRpcTransport;
use a2a_client::rest::RestTransport;
use a2a_grpc::GrpcTransport;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Result;
use crate::contender::stock_http;
use crate::fixture::Fixture;
use crate::scenario::A2aBinding;

pub(super) async fn transport(
    fixture: &Fixture,
    origin: &str,
    binding: A2aBinding,
) -> Result<Box<dyn Transport>> {
    Ok(match binding {
        A2aBinding::JsonRpc => Box::new(JsonRpcTransport::new(
            stock_http(fixture)?.build()?,
            format!("{origin}/jsonrpc"),
        )),
        A2aBinding::HttpJson => Box::new(RestTransport::new(
            stock_http(fixture)?.build()?,
            format!("{origin}/rest"),
        )),
        A2aBinding::Grpc => Box::new(GrpcTransport::from_channel(channel(fixture, origin).await?)),
    })
}

/// A connector for tonic: the SDK's own would add another TLS crate.
async fn channel(fixture: &Fixture, origin: &str) -> Result<Channel> {
    let tls = TlsConnector::from(Arc::new(tls(fixture)?));
    let connector = tower::service_fn(move |uri: Uri| {
        let tls = tls.clone();
        async move {
            let (host, port) = (
                uri.host().unwrap_or_default(),
                uri.port_u16().unwrap_or(443),
            );
            let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
            let socket = TcpStream::connect((host, port)).await?;
            // As tonic's own connector does.
            socket.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, socket).await?))
        }
    });
    // Plaintext for tonic: the connector does TLS.
    let authority = origin.trim_start_matches("https://");
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?;
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn tls(fixture: &Fixture) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(fixture.pki.ca_der().clone())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(fixture.agent.chain_pem().as_bytes())
        .collect::<std::result::Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(fixture.agent.key_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

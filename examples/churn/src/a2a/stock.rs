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
use crate::scenario::Binding;
use crate::world::World;

pub(super) async fn transport(
    world: &World,
    origin: &str,
    binding: Binding,
) -> Result<Box<dyn Transport>> {
    Ok(match binding {
        Binding::JsonRpc => Box::new(JsonRpcTransport::new(
            stock_http(world)?.build()?,
            format!("{origin}/jsonrpc"),
        )),
        Binding::HttpJson => Box::new(RestTransport::new(
            stock_http(world)?.build()?,
            format!("{origin}/rest"),
        )),
        Binding::Grpc => Box::new(GrpcTransport::from_channel(channel(world, origin).await?)),
    })
}

/// tonic takes a connector; the SDK's own would bring a TLS crate of its own with it.
async fn channel(world: &World, origin: &str) -> Result<Channel> {
    let tls = TlsConnector::from(Arc::new(tls(world)?));
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
    // To tonic it is plaintext: TLS is the connector's affair.
    let authority = origin.trim_start_matches("https://");
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))?;
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn tls(world: &World) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(world.pki.ca_der().clone())?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(world.agent.chain_pem().as_bytes())
        .collect::<std::result::Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(world.agent.key_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}

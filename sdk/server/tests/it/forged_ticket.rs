//! T8: a stolen ticket key, with which a thief forges a session of the victim's certificate.

use std::sync::Arc;

use bowline_server::{AcceptPolicy, ClientAuth, ServeOptions, ServerTlsBuilder, TicketKeys};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::AsyncReadExt;

use crate::fixture::*;

/// Two keys, as a deployment of several servers has them in a file.
fn shared_keys(name: &str) -> TicketKeys {
    let folder = Folder::new(name);
    let key = |byte: u8| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    };
    let path = folder.write("ticket-keys", format!("{}\n{}\n", key(1), key(2)));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    TicketKeys::from_file(path).unwrap()
}

/// The thief's client: the victim's certificate, and a key of the thief's own.
fn thief(fixture: &Fixture, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let thief = fixture.ca.client("thief");
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&thief.private_key()).unwrap();
    let pair = CertifiedKey::new(vec![fixture.agent.certificate.clone()], key);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(fixture.ca.roots())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn start(fixture: &Fixture, tls: ServerTlsBuilder, policy: AcceptPolicy) -> TestServer {
    let listener = fixture.listener(tls).await;
    let router = binding_report().layer(fixture.layer().policy(policy));
    TestServer::start(listener, router, ServeOptions::default())
}

#[tokio::test]
async fn t8_a_forged_ticket_and_a_stolen_token_satisfy_rfc_8705_and_not_session_binding() {
    let fixture = Fixture::new();
    let keys = shared_keys("t8");
    let token = fixture
        .authority
        .certificate_bound(&fixture.agent.thumbprint());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        // The thief's own server issues the ticket: it believes every client, and has the key.
        let believing = fixture.tls_with(ClientAuth::Custom(Arc::new(BelieveAll)));
        let forge = start(
            &fixture,
            believing.ticket_keys(keys.clone()),
            AcceptPolicy::Follow,
        )
        .await;
        let follow = start(
            &fixture,
            fixture.tls().ticket_keys(keys.clone()),
            AcceptPolicy::Follow,
        )
        .await;
        let prove = start(
            &fixture,
            fixture.tls().ticket_keys(keys.clone()),
            AcceptPolicy::RequireProof,
        )
        .await;
        let config = thief(&fixture, version);
        let forged = async || {
            // A ticket is used once.
            let mut connection = HttpConnection::connect(forge.addr, &config).await;
            let answer = connection.get("/", &token, None).await;
            answer.assert_passed("certificate");
        };

        forged().await;
        let mut connection = HttpConnection::connect(follow.addr, &config).await;
        assert!(connection.resumed);
        let answer = connection.get("/", &token, None).await;
        // RFC 8705 alone is satisfied: this is what the policies that demand a proof are for.
        answer.assert_passed("certificate");

        forged().await;
        let mut connection = HttpConnection::connect(prove.addr, &config).await;
        assert!(connection.resumed);
        connection.assert_refused(&token, None, "RS-4").await;
        let own = connection.proof(&fixture.ca.client("thief").proof_key(), &token);
        connection.assert_refused(&token, Some(&own), "RS-5").await;
        let victim = HttpConnection::connect(prove.addr, &fixture.client("h2")).await;
        let stolen = victim.proof(&fixture.agent.proof_key(), &token);
        connection
            .assert_refused(&token, Some(&stolen), "RS-6")
            .await;

        // A server with a ticket key of its own does a full handshake, and there the key is needed.
        forged().await;
        let alone = start(&fixture, fixture.tls(), AcceptPolicy::Follow).await;
        let is_refused = match tls(alone.addr, &config).await {
            Ok(mut stream) => within(stream.read_u8()).await.is_err(),
            Err(_) => true,
        };
        assert!(is_refused, "the thief cannot sign");
    }
}

#[tokio::test]
async fn rs_1_a_session_of_one_server_is_resumed_by_another_where_they_share_the_keys() {
    let fixture = Fixture::new();
    let keys = shared_keys("shared");
    let servers = [
        start(
            &fixture,
            fixture.tls().ticket_keys(keys.clone()),
            AcceptPolicy::RequireSession,
        )
        .await,
        start(
            &fixture,
            fixture.tls().ticket_keys(keys),
            AcceptPolicy::RequireSession,
        )
        .await,
        start(&fixture, fixture.tls(), AcceptPolicy::RequireSession).await,
    ];
    let config = fixture.client("h2");
    let (token, key) = (fixture.token(), fixture.agent.proof_key());
    for (server, resumed) in servers.iter().zip([false, true, false]) {
        let mut connection = HttpConnection::connect(server.addr, &config).await;
        assert_eq!(connection.resumed, resumed);
        let proof = connection.proof(&key, &token);
        connection.assert_passes(&token, &proof).await;
    }
}

/// A verifier that believes every certificate and every signature.
#[derive(Debug)]
struct BelieveAll;

impl ClientCertVerifier for BelieveAll {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

//! EX-1..EX-5, on real rustls connections joined in memory.

use std::sync::Arc;

use bowline_proof::{EXPORTER_LABEL, ExporterValue};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use crate::fixture::{P256, P384};

#[test]
fn both_ends_derive_the_same_value_on_tls_1_3() {
    let mut pair = Connection::connect(&Configs::new(&TLS13));
    assert!(pair.value().matches(&pair.server_value()));
    pair.exchange_data();
}

#[test]
fn both_ends_derive_the_same_value_on_tls_1_2() {
    let mut pair = Connection::connect(&Configs::new(&TLS12));
    assert!(pair.value().matches(&pair.server_value()));
    pair.exchange_data();
}

#[test]
fn label_length_and_present_empty_context_are_those_of_the_profile() {
    for version in [&TLS12, &TLS13] {
        let pair = Connection::connect(&Configs::new(version));
        let export = |context| {
            let bytes = pair
                .client
                .export_keying_material([0; 32], b"EXPORTER-oauth-tls-session-bound", context)
                .unwrap();
            ExporterValue::from_bytes(bytes)
        };
        assert!(pair.value().matches(&export(Some(&[]))));
        // RFC 5705 gives another value for an absent context, RFC 8446 the same.
        let absent_is_empty = version == &TLS13;
        assert_eq!(pair.value().matches(&export(None)), absent_is_empty);
    }
    assert_eq!(EXPORTER_LABEL, "EXPORTER-oauth-tls-session-bound");
}

#[test]
fn another_connection_has_another_value() {
    let configs = Configs::new(&TLS13);
    let (one, other) = (Connection::connect(&configs), Connection::connect(&configs));
    assert!(!one.value().matches(&other.value()));
}

#[test]
fn a_key_update_keeps_the_value() {
    let mut pair = Connection::connect(&Configs::new(&TLS13));
    let before = pair.value();
    pair.client.refresh_traffic_keys().unwrap();
    pair.exchange_data();
    pair.server.refresh_traffic_keys().unwrap();
    pair.exchange_data();
    assert!(before.matches(&pair.value()));
    assert!(before.matches(&pair.server_value()));
}

#[test]
fn a_resumed_session_has_another_value() {
    for version in [&TLS12, &TLS13] {
        let configs = Configs::new(version);
        let mut full = Connection::connect(&configs);
        // The tickets of TLS 1.3 come after the handshake.
        full.exchange_data();
        let resumed = Connection::connect(&configs);
        assert_eq!(full.client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(
            resumed.client.handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        assert!(!full.value().matches(&resumed.value()));
        assert!(resumed.value().matches(&resumed.server_value()));
    }
}

#[test]
fn deriving_before_the_handshake_completes_is_an_error() {
    let mut pair = Connection::new(&Configs::new(&TLS13));
    assert!(ExporterValue::derive(&pair.client).is_err());
    assert!(ExporterValue::derive(&pair.server).is_err());

    transfer(&mut pair.client, &mut pair.server);
    let error = ExporterValue::derive(&pair.client).unwrap_err();
    assert!(error.to_string().contains("after the TLS handshake"));

    pair.complete();
    assert!(ExporterValue::derive(&pair.client).is_ok());
}

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Configs {
    /// Mutual TLS of the one version, extended master secret required (EX-2).
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let trust = |certificate: &rustls_pki_types::CertificateDer<'static>| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            Arc::new(roots)
        };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(trust(&P256.certificate), provider.clone())
                .build()
                .unwrap();
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![P384.certificate.clone()], P384.private_key())
            .unwrap();
        server.require_ems = true;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(trust(&P384.certificate))
            .with_client_auth_cert(vec![P256.certificate.clone()], P256.private_key())
            .unwrap();
        client.require_ems = true;
        Self {
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }
}

struct Connection {
    client: ClientConnection,
    server: ServerConnection,
}

impl Connection {
    fn new(configs: &Configs) -> Self {
        let name = "localhost".try_into().unwrap();
        Self {
            client: ClientConnection::new(configs.client.clone(), name).unwrap(),
            server: ServerConnection::new(configs.server.clone()).unwrap(),
        }
    }

    fn connect(configs: &Configs) -> Self {
        let mut connection = Self::new(configs);
        connection.complete();
        connection
    }

    fn complete(&mut self) {
        while self.client.is_handshaking() || self.server.is_handshaking() {
            transfer(&mut self.client, &mut self.server);
            transfer(&mut self.server, &mut self.client);
        }
    }

    fn value(&self) -> ExporterValue {
        ExporterValue::derive(&self.client).unwrap()
    }

    fn server_value(&self) -> ExporterValue {
        ExporterValue::derive(&self.server).unwrap()
    }

    /// Round trips, which also carry what is left of the handshake, such as tickets.
    fn exchange_data(&mut self) {
        for _ in 0..2 {
            send(&mut self.client, &mut self.server);
            send(&mut self.server, &mut self.client);
        }
    }
}

fn send<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) {
    use std::io::{Read, Write};
    from.writer().write_all(b"ping").unwrap();
    transfer(from, to);
    let mut received = [0; 4];
    to.reader().read_exact(&mut received).unwrap();
    assert_eq!(&received, b"ping");
}

fn transfer<A, B>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut wire = wire.as_slice();
    while !wire.is_empty() {
        to.read_tls(&mut wire).unwrap();
        to.process_new_packets().unwrap();
    }
}

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_proof::{ProofKey, Thumbprint};
use bowline_server::Identity;
use bowline_testkit::pki::{KeyKind, Leaf, LeafSpec, Pki};
use bowline_testkit::tls::{Alpn, ClientAuth, TlsOptions, Versions};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use rustls_pki_types::ServerName;

/// A handshake in memory, with the tickets that follow it; or the error that ended it.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((client, server))
}

fn try_client(pki: &Pki, identity: &Leaf) -> Result<(), rustls::Error> {
    let options = TlsOptions::default();
    let client = options.client(pki, Some(identity));
    let server = options.server(pki, &pki.localhost(), ClientAuth::Required);
    handshake(&client, &server, "localhost").map(drop)
}

#[test]
fn the_localhost_certificate_fits_the_name_and_both_addresses_and_no_other_name() {
    let pki = Pki::new();
    let options = TlsOptions::default();
    let client = options.client(&pki, None);
    let server = options.server(&pki, &pki.localhost(), ClientAuth::None);
    for name in ["localhost", "127.0.0.1", "::1"] {
        handshake(&client, &server, name).unwrap();
    }
    assert!(handshake(&client, &server, "example.com").is_err());
}

#[test]
fn a_client_of_every_key_kind_authenticates_and_can_sign_proofs() {
    let pki = Pki::new();
    let options = TlsOptions::default();
    let server = options.server(&pki, &pki.localhost(), ClientAuth::Required);
    for kind in KeyKind::ALL {
        let leaf = pki.client("agent", kind);
        let client = options.client(&pki, Some(&leaf));
        let (_, server) = handshake(&client, &server, "localhost").unwrap();
        let seen = &server.peer_certificates().unwrap()[0];
        assert_eq!(
            Thumbprint::from_certificate(seen),
            leaf.thumbprint(),
            "{kind:?}"
        );
        let key = ProofKey::new(leaf.certificate(), leaf.signing_key()).unwrap();
        assert_eq!(key.thumbprint(), leaf.thumbprint(), "{kind:?}");
    }
}

#[test]
fn certificates_outside_their_validity_or_of_a_foreign_authority_are_refused() {
    let pki = Pki::new();
    let client = LeafSpec::client("agent");
    try_client(&pki, &pki.issue(&client)).unwrap();
    for (refused, why) in [
        (pki.issue(&client.clone().expired()), "Expired"),
        (pki.issue(&client.clone().not_yet_valid()), "NotValidYet"),
        (Pki::foreign().issue(&client), "UnknownIssuer"),
    ] {
        let error = try_client(&pki, &refused).unwrap_err();
        assert!(format!("{error:?}").contains(why), "{error:?}");
    }
}

#[test]
fn a_server_certificate_does_not_authenticate_a_client() {
    let pki = Pki::new();
    let error = try_client(&pki, &pki.localhost()).unwrap_err();
    assert!(format!("{error:?}").contains("InvalidPurpose"), "{error:?}");
}

#[test]
fn a_certificate_expires_when_its_spec_says() {
    let pki = Pki::new();
    let end = SystemTime::now() + Duration::from_secs(7);
    let leaf = pki.issue(&LeafSpec::client("agent").not_after(end));
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf.certificate()).unwrap();
    let asked = end.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let written = u64::try_from(parsed.validity().not_after.timestamp()).unwrap();
    assert_eq!(written, asked.as_secs());
    assert_eq!(leaf.not_after(), end);
}

#[test]
fn options_choose_version_protocol_and_resumption() {
    let pki = Pki::new();
    let leaf = pki.localhost();
    let identity = pki.client("agent", KeyKind::P256);
    for (versions, spoken) in [
        (Versions::Tls12, ProtocolVersion::TLSv1_2),
        (Versions::Tls13, ProtocolVersion::TLSv1_3),
        (Versions::Both, ProtocolVersion::TLSv1_3),
    ] {
        for (resumption, second) in [(true, HandshakeKind::Resumed), (false, HandshakeKind::Full)] {
            let options = TlsOptions {
                alpn: Alpn::Http1,
                versions,
                resumption,
            };
            let client = options.client(&pki, Some(&identity));
            let server = TlsOptions::default().server(&pki, &leaf, ClientAuth::Required);
            handshake(&client, &server, "localhost").unwrap();
            let (client, _) = handshake(&client, &server, "localhost").unwrap();
            assert_eq!(client.protocol_version(), Some(spoken));
            assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(client.handshake_kind(), Some(second), "{options:?}");
        }
    }
}

#[test]
fn a_server_without_resumption_resumes_nothing() {
    let pki = Pki::new();
    for versions in [Versions::Tls12, Versions::Tls13] {
        let client = TlsOptions::default().client(&pki, None);
        let options = TlsOptions {
            versions,
            resumption: false,
            ..TlsOptions::default()
        };
        let server = options.server(&pki, &pki.localhost(), ClientAuth::None);
        handshake(&client, &server, "localhost").unwrap();
        let (client, _) = handshake(&client, &server, "localhost").unwrap();
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn client_authentication_is_not_asked_for_optional_or_required() {
    let pki = Pki::new();
    let options = TlsOptions::default();
    let anonymous = options.client(&pki, None);
    let authenticated = options.client(&pki, Some(&pki.client("agent", KeyKind::P256)));
    let serve = |auth| options.server(&pki, &pki.localhost(), auth);

    let (_, server) = handshake(&authenticated, &serve(ClientAuth::None), "localhost").unwrap();
    assert!(server.peer_certificates().is_none());
    let (_, server) = handshake(&authenticated, &serve(ClientAuth::Optional), "localhost").unwrap();
    assert!(server.peer_certificates().is_some());
    let (_, server) = handshake(&anonymous, &serve(ClientAuth::Optional), "localhost").unwrap();
    assert!(server.peer_certificates().is_none());
    let error = handshake(&anonymous, &serve(ClientAuth::Required), "localhost").unwrap_err();
    assert!(matches!(
        error,
        rustls::Error::NoCertificatesPresented
            | rustls::Error::AlertReceived(AlertDescription::CertificateRequired)
    ));
}

#[test]
fn certificates_are_readable_by_others_and_keys_are_not() {
    let dir = std::env::temp_dir().join(format!("bowline-testkit-{}", std::process::id()));
    let pki = Pki::new();
    let (server, client) = (pki.localhost(), pki.client("agent", KeyKind::Ed25519));
    std::fs::create_dir_all(&dir).unwrap();
    // A key file left behind with a loose mode does not stay loose.
    std::fs::write(dir.join("agent-key.pem"), "old").unwrap();

    pki.write_to(&dir, &[&server, &client]).unwrap();

    bowline_server::Trust::from_pem_file(dir.join("ca.pem")).unwrap();
    for name in ["localhost", "agent"] {
        let (chain, key) = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}-key.pem")),
        );
        Identity::from_pem_files(&chain, &key).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn debug_output_shows_no_key() {
    let leaf = Pki::new().client("agent", KeyKind::P256);
    assert_eq!(
        format!("{leaf:?}"),
        r#"Leaf { name: "agent", kind: P256, .. }"#
    );
}

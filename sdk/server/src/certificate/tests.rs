use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

use super::*;

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    ClientCertificate::new(certificate.der().clone()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn a_subject_is_escaped_so_that_no_value_looks_like_two_attributes() {
    let plain = certificate(|params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "agent");
    });
    assert_eq!(plain.subject(), "CN=agent,O=Example");
    for (value, written) in [
        ("agent,O=Example", r"CN=agent\,O\=Example"),
        ("a+b", r"CN=a\+b"),
        (" a ", r"CN=\ a\ "),
        ("#1", r"CN=\#1"),
        ("a\nb", r"CN=a\0ab"),
        ("ä\\", r"CN=ä\\"),
    ] {
        let odd = certificate(|params| {
            let value = DnValue::Utf8String(value.to_owned());
            params.distinguished_name.push(DnType::CommonName, value);
        });
        // `=` needs no escape.
        assert_eq!(odd.subject(), written.replace(r"\=", "="), "{value:?}");
    }
    assert_eq!(certificate(|_| {}).subject(), "");
}

#[test]
fn the_spiffe_id_is_the_only_uri_among_the_names() {
    let id = "spiffe://example.org/ns/default/agent";
    let of = |names: Vec<SanType>| certificate(|params| params.subject_alt_names = names);
    assert_eq!(of(vec![uri(id)]).spiffe_id(), Some(id));
    let dns = SanType::DnsName("agent.example.org".try_into().unwrap());
    assert_eq!(of(vec![dns, uri(id)]).spiffe_id(), Some(id));
    assert_eq!(
        of(vec![uri(id), uri("https://example.org/")]).spiffe_id(),
        None
    );
    assert_eq!(of(vec![uri("https://example.org/")]).spiffe_id(), None);
    assert_eq!(of(vec![]).spiffe_id(), None);
}

#[test]
fn a_spiffe_id_has_a_trust_domain_and_plain_segments() {
    for good in [
        "spiffe://example.org",
        "spiffe://example.org/a",
        "spiffe://a_b-c.1/A.b/...",
    ] {
        assert!(is_spiffe_id(good), "{good}");
    }
    let long = format!("spiffe://example.org/{}", "a".repeat(2048));
    for bad in [
        "",
        "spiffe://",
        "spiffe:///a",
        "SPIFFE://example.org",
        "spiffe://Example.org",
        "spiffe://example.org/",
        "spiffe://example.org//a",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://user@example.org/a",
        "spiffe://example.org:443/a",
        "spiffe://example.org/%41",
        &long,
    ] {
        assert!(!is_spiffe_id(bad), "{bad}");
    }
}

#[test]
fn gw_2_a_client_cert_field_is_the_certificate_as_a_byte_sequence_of_rfc_9440() {
    let certificate = certificate(|_| ());
    let field = certificate.client_cert().to_str().unwrap();
    let inner = field
        .strip_prefix(':')
        .and_then(|text| text.strip_suffix(':'));
    let der = STANDARD.decode(inner.unwrap()).unwrap();
    assert_eq!(der, certificate.der().as_ref());
}

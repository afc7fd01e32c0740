use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

use std::net::SocketAddr;

use super::*;
use crate::certificate::ClientCertificate;

fn address(text: &str) -> Owner {
    Owner::of(None, Some(SocketAddr::new(text.parse().unwrap(), 1)))
}

fn certificate(ca: &str, subject: Option<&str>, spiffe_id: Option<&str>) -> ClientCertificate {
    let named = |name: Option<&str>| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params
    };
    let mut issuer = named(Some(ca));
    issuer.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(issuer, KeyPair::generate().unwrap()).unwrap();
    let mut params = named(subject);
    params.subject_alt_names = spiffe_id
        .map(|id| SanType::URI(id.try_into().unwrap()))
        .into_iter()
        .collect();
    let leaf = params
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    ClientCertificate::new(leaf.der().clone()).unwrap()
}

#[test]
fn an_owner_is_a_spiffe_id_else_subject_and_issuer_else_a_thumbprint_else_an_address_prefix() {
    let peer = Some("192.0.2.7:1".parse().unwrap());
    let of = |certificate: &ClientCertificate| Owner::of(Some(certificate), peer);
    let id = "spiffe://example.org/agent";

    let spiffe = of(&certificate("ca", Some("one"), Some(id)));
    assert_eq!(spiffe, of(&certificate("ca", Some("other"), Some(id))));
    assert_eq!(spiffe.class(), OwnerClass::SpiffeId);

    // Each time another key and another certificate.
    let named = of(&certificate("ca", Some("agent"), None));
    assert_eq!(named, of(&certificate("ca", Some("agent"), None)));
    assert_ne!(named, of(&certificate("other ca", Some("agent"), None)));
    assert_ne!(named, of(&certificate("ca", Some("other"), None)));
    assert_eq!(named.class(), OwnerClass::Subject);

    let nameless = certificate("ca", None, None);
    assert_eq!(of(&nameless), Owner::Certificate(nameless.thumbprint()));
    assert_eq!(of(&nameless).class(), OwnerClass::Certificate);

    assert_eq!(Owner::of(None, peer), address("192.0.2.7"));
    assert_eq!(Owner::of(None, peer).class(), OwnerClass::Address);
    assert_eq!(Owner::of(None, None), Owner::Unknown);
}

#[test]
fn an_address_counts_as_an_ipv4_address_or_as_the_64_of_an_ipv6_address() {
    assert_ne!(address("192.0.2.7"), address("192.0.2.8"));
    assert_eq!(address("192.0.2.7"), address("::ffff:192.0.2.7"));
    assert_ne!(address("::ffff:192.0.2.7"), address("::ffff:192.0.2.8"));
    assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_eq!(address("2001:db8::1").to_string(), "2001:db8::/64");
    assert_eq!(address("192.0.2.7").to_string(), "192.0.2.7/32");
}

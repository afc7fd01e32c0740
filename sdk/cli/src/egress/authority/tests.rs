use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(
        time.duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970"),
    )
}

/// What rustls says of a chain for a name.
fn verify(
    authority: &Authority,
    chain: &[CertificateDer<'static>],
    name: &str,
) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().clone()).expect("a root");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("a verifier");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let now = unix(SystemTime::now());
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], now)
        .map(|_| ())
}

fn authority() -> Authority {
    Authority::new(["tools.example", "api.example"]).expect("an authority")
}

#[test]
fn a_leaf_is_for_its_one_name_alone() {
    let authority = authority();
    let leaf = authority
        .leaf("tools.example", SystemTime::now())
        .expect("a leaf");
    verify(&authority, &leaf.cert, "tools.example").expect("its own name");
    for other in ["api.example", "www.tools.example", "other.example"] {
        let error = verify(&authority, &leaf.cert, other).expect_err(other);
        let expected = matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        );
        assert!(expected, "{other}: {error:?}");
    }
    let (_, parsed) = X509Certificate::from_der(&leaf.cert[0]).expect("DER");
    assert_eq!(parsed.subject().iter().count(), 0);
    let names = parsed
        .subject_alternative_name()
        .expect("one")
        .expect("one");
    assert!(names.critical, "RFC 5280 section 4.1.2.6");
    let names = &names.value.general_names;
    assert_eq!(format!("{names:?}"), r#"[DNSName("tools.example")]"#);
    let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
    assert_eq!(life, 25 * 3600, "24 h, and an hour before");
}

#[test]
fn a_name_that_is_not_allowed_gets_no_leaf() {
    let authority = authority();
    for name in [
        "other.example",
        "www.tools.example",
        "example",
        "*.tools.example",
        "127.0.0.1",
    ] {
        assert!(authority.leaf(name, SystemTime::now()).is_err(), "{name}");
    }
}

#[test]
fn what_the_intermediate_signs_beyond_its_constraints_is_refused() {
    let authority = authority();
    let now = SystemTime::now();
    for (name, san) in [
        (
            "other.example",
            SanType::DnsName("other.example".try_into().expect("a name")),
        ),
        (
            "127.0.0.1",
            SanType::IpAddress("127.0.0.1".parse().expect("an address")),
        ),
        (
            "::1",
            SanType::IpAddress("::1".parse().expect("an address")),
        ),
    ] {
        let mut leaf = params(now, LEAF_LIFE);
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.subject_alt_names = vec![san];
        let key = new_key().expect("a key");
        let forged = leaf.signed_by(&key, &authority.issuer).expect("signed");
        let chain = [forged.into(), authority.intermediate.clone()];
        let error = verify(&authority, &chain, name).expect_err(name);
        let text = format!("{error:?}");
        assert!(text.contains("NameConstraint"), "{name}: {text}");
    }
}

#[test]
fn an_authority_below_the_intermediate_is_refused() {
    let authority = authority();
    let now = SystemTime::now();
    let mut below = params(now, LEAF_LIFE);
    below.distinguished_name = common_name("below");
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    below.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = new_key().expect("a key");
    let below_der = below.signed_by(&key, &authority.issuer).expect("signed");
    let below = Issuer::new(below, key);
    let mut leaf = params(now, LEAF_LIFE);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.subject_alt_names = vec![SanType::DnsName(
        "tools.example".try_into().expect("a name"),
    )];
    let leaf_key = new_key().expect("a key");
    let leaf = leaf.signed_by(&leaf_key, &below).expect("signed");
    let chain = [
        leaf.into(),
        below_der.into(),
        authority.intermediate.clone(),
    ];
    let error = verify(&authority, &chain, "tools.example").expect_err("pathLen 0");
    assert!(format!("{error:?}").contains("PathLen"), "{error:?}");
}

#[test]
fn root_and_intermediate_may_do_nothing_but_sign_certificates() {
    let authority = authority();
    for (der, path_len, constrained) in [
        (authority.root(), 1, false),
        (&authority.intermediate, 0, true),
    ] {
        let (_, parsed) = X509Certificate::from_der(der).expect("DER");
        let usage = parsed.key_usage().expect("one").expect("one").value;
        assert_eq!(usage.flags, 1 << 5, "keyCertSign alone");
        let basic = parsed.basic_constraints().expect("one").expect("one");
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, Some(path_len));
        let constraints = parsed.name_constraints().expect("readable");
        assert_eq!(constraints.is_some(), constrained);
        if let Some(constraints) = constraints {
            assert!(constraints.critical);
            let usage = parsed
                .extended_key_usage()
                .expect("one")
                .expect("one")
                .value;
            assert!(usage.server_auth && !usage.client_auth && !usage.any);
        }
        let life =
            parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(life, 90 * 24 * 3600 + 3600);
    }
}

#[test]
fn a_leaf_is_issued_anew_in_the_middle_of_its_life() {
    let authority = authority();
    let now = SystemTime::now();
    let first = authority.leaf("api.example", now).expect("a leaf");
    let soon = authority
        .leaf("api.example", now + LEAF_USE - HOUR)
        .expect("a leaf");
    assert!(Arc::ptr_eq(&first, &soon));
    let later = authority
        .leaf("api.example", now + LEAF_USE)
        .expect("a leaf");
    assert!(!Arc::ptr_eq(&first, &later));
    let set_back = authority.leaf("api.example", now).expect("a leaf");
    assert!(!Arc::ptr_eq(&later, &set_back), "the clock was set back");
}

#[test]
fn no_debug_shows_a_key() {
    let text = format!("{:?}", authority());
    assert_eq!(
        text,
        r#"Authority { names: ["api.example", "tools.example"], .. }"#
    );
}

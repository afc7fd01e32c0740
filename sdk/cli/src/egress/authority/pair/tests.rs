use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::*;

fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(
        time.duration_since(SystemTime::UNIX_EPOCH)
            .expect("after 1970"),
    )
}

/// What rustls says of a chain for a name.
fn verify(pair: &Pair, chain: &[CertificateDer<'static>], name: &str) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.root().clone()).expect("a root");
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

fn pair() -> Pair {
    let names = ["api.example", "tools.example"].map(str::to_owned);
    Pair::new(&names, SystemTime::now()).expect("a pair")
}

#[test]
fn a_leaf_is_for_its_one_name_alone() {
    let pair = pair();
    let leaf = pair
        .issue("tools.example", SystemTime::now())
        .expect("a leaf");
    verify(&pair, &leaf.cert, "tools.example").expect("its own name");
    for other in ["api.example", "www.tools.example", "other.example"] {
        let error = verify(&pair, &leaf.cert, other).expect_err(other);
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
fn what_the_intermediate_signs_beyond_its_constraints_is_refused() {
    let pair = pair();
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
        let forged = leaf.signed_by(&key, &pair.issuer).expect("signed");
        let chain = [forged.into(), pair.intermediate.clone()];
        let error = verify(&pair, &chain, name).expect_err(name);
        let text = format!("{error:?}");
        assert!(text.contains("NameConstraint"), "{name}: {text}");
    }
}

#[test]
fn an_authority_below_the_intermediate_is_refused() {
    let pair = pair();
    let now = SystemTime::now();
    let mut below = params(now, LEAF_LIFE);
    below.distinguished_name = common_name("below");
    below.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    below.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = new_key().expect("a key");
    let below_der = below.signed_by(&key, &pair.issuer).expect("signed");
    let below = Issuer::new(below, key);
    let mut leaf = params(now, LEAF_LIFE);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.subject_alt_names = vec![SanType::DnsName(
        "tools.example".try_into().expect("a name"),
    )];
    let leaf_key = new_key().expect("a key");
    let leaf = leaf.signed_by(&leaf_key, &below).expect("signed");
    let chain = [leaf.into(), below_der.into(), pair.intermediate.clone()];
    let error = verify(&pair, &chain, "tools.example").expect_err("pathLen 0");
    assert!(format!("{error:?}").contains("PathLen"), "{error:?}");
}

#[test]
fn root_and_intermediate_may_do_nothing_but_sign_certificates() {
    let pair = pair();
    for (der, path_len, constrained) in [(pair.root(), 1, false), (&pair.intermediate, 0, true)] {
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
fn a_pair_that_was_written_and_read_signs_on() {
    let written = pair();
    let read = Pair::from_pem(written.to_pem().as_bytes()).expect("what was written");
    assert_eq!(read.names(), written.names());
    assert_eq!(read.not_after(), written.not_after());
    let leaf = read
        .issue("api.example", SystemTime::now())
        .expect("a leaf");
    verify(&written, &leaf.cert, "api.example").expect("the same root");
    for wrong in ["", "x", pair().to_pem().split_at(400).0] {
        assert!(Pair::from_pem(wrong.as_bytes()).is_err());
    }
}

#[test]
fn a_leaf_does_not_outlive_its_pair() {
    let pair = pair();
    let late = pair.not_after() - Duration::from_secs(60);
    let leaf = pair.issue("api.example", late).expect("a leaf");
    let (_, parsed) = X509Certificate::from_der(&leaf.cert[0]).expect("DER");
    let ends = u64::try_from(parsed.validity().not_after.timestamp()).expect("after 1970");
    let pair_ends = pair.not_after().duration_since(SystemTime::UNIX_EPOCH);
    assert_eq!(ends, pair_ends.expect("after 1970").as_secs());
}

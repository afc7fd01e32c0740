//! Certificates: whose they are, how long they are valid, and whether proofs can be made with them.

use bowline::client::Thumbprint;
use bowline_proof::ProofVerifier;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use super::report::{Outcome, Report};
use super::{Known, token};
use crate::failure::Failure;
use crate::text::moment;

pub(super) fn inspect(certificates: &[Vec<u8>], known: &Known) -> Result<Report, Failure> {
    let title = match certificates.len() {
        1 => "certificate".to_owned(),
        many => format!("{many} certificates"),
    };
    let mut report = Report::new("certificate", title);
    for (index, der) in certificates.iter().enumerate() {
        one(&mut report, index, der, known)?;
    }
    Ok(report)
}

fn one(report: &mut Report, index: usize, der: &[u8], known: &Known) -> Result<(), Failure> {
    let number = index + 1;
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| {
        Failure::failed(format!(
            "certificate {number} is no X.509 certificate, or is cut off"
        ))
    })?;
    if !rest.is_empty() {
        let more = rest.len();
        return Err(Failure::failed(format!(
            "certificate {number} has {more} bytes behind its end"
        )));
    }
    let part = format!("certificate {number}");
    let mut member = |name: &str, value: String, meaning: &str| {
        report.member(&part, name, value, meaning);
    };
    let name = |name: &X509Name<'_>| match name.iter().next() {
        None => "(empty)".to_owned(),
        Some(_) => name.to_string(),
    };
    member("subject", name(certificate.subject()), "whose it is");
    member("issuer", name(certificate.issuer()), "who issued it");
    member("serial", certificate.raw_serial_as_string(), "its number");
    for alternative in alternative_names(&certificate) {
        member("name", alternative, "another name of its subject");
    }
    let thumbprint = Thumbprint::from_certificate(&der.into());
    let meaning = "its SHA-256: cnf.x5t#S256 of a token, x5t#S256 of a proof (PR-3)";
    member("x5t#S256", thumbprint.to_string(), meaning);
    member("key", key(&certificate), "its public key");
    if let Ok(Some(usage)) = certificate.extended_key_usage() {
        let of = |is: bool, name: &'static str| is.then_some(name);
        let known = [
            of(usage.value.client_auth, "clientAuth"),
            of(usage.value.server_auth, "serverAuth"),
            of(usage.value.any, "any"),
        ];
        let known: Vec<&str> = known.into_iter().flatten().collect();
        member("usage", known.join(", "), "what TLS takes it for");
    }
    if certificate.is_ca() {
        member("ca", "true".to_owned(), "it may issue others");
    }
    let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
    let not_before = seconds(certificate.validity().not_before.timestamp());
    let not_after = seconds(certificate.validity().not_after.timestamp());
    member(
        "not before",
        moment(not_before, known.now),
        "its validity begins",
    );
    member(
        "not after",
        moment(not_after, known.now),
        "its validity ends",
    );

    report.check(
        "RS-1",
        "it is valid now",
        match known.now {
            now if now < not_before => Outcome::failed("it is not valid yet"),
            now if now > not_after => Outcome::failed("it has expired"),
            _ => Outcome::Ok,
        },
    );
    if certificate.is_ca() {
        return Ok(());
    }
    report.check(
        "PR-2",
        "its key can make proofs",
        match ProofVerifier::new(&der.into()) {
            Ok(_) => Outcome::Ok,
            Err(error) => Outcome::failed(error.to_string()),
        },
    );
    if index == 0 {
        if let Some(token) = &known.token {
            let what = "the token is bound to it";
            report.check("RS-3", what, token::bound_to(token, thumbprint));
        }
        if let Some(other) = &known.certificate {
            let other = Thumbprint::from_certificate(&other.as_slice().into());
            let otherwise = format!("that is {other}");
            let outcome = Outcome::of(other == thumbprint, otherwise);
            report.check("PR-3", "it is the certificate of --cert", outcome);
        }
    }
    Ok(())
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::RFC822Name(name) => format!("email {name}"),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => format!("IP {}", std::net::Ipv4Addr::from(v4)),
            Err(_) => match <[u8; 16]>::try_from(*bytes) {
                Ok(v6) => format!("IP {}", std::net::Ipv6Addr::from(v6)),
                Err(_) => "an IP address of a wrong length".to_owned(),
            },
        },
        _ => "a name of another kind".to_owned(),
    };
    names.value.general_names.iter().map(text).collect()
}

fn key(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA, {} bits", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("elliptic curve, {} bits", point.key_size()),
        _ => format!("algorithm {}", key.algorithm.algorithm),
    }
}

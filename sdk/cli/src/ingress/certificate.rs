//! The server's own certificate: what names it has, and whether it is valid now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use bowline::server::{Identity, Origin};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::failure::Failure;
use crate::secret;

/// The first certificate of the server's chain.
pub(crate) struct ServerCertificate {
    pem: Vec<u8>,
    leaf: Pem,
}

impl ServerCertificate {
    /// Reads a chain and its private key, each from the file that an option names.
    ///
    /// # Errors
    /// They cannot be used now, or every user of the machine can read the key.
    pub(crate) fn with_key(
        (option, path): (&str, &Path),
        (key_option, key): (&str, &Path),
    ) -> Result<(Self, Identity), Failure> {
        let certificate = Self::read(option, path)?;
        let text = secret::read_private_file(key_option, key)?;
        let identity = Identity::from_pem(&certificate.pem, &text).map_err(|error| {
            Failure::usage(format!(
                "{option} {} with {key_option} {}: {error}",
                path.display(),
                key.display()
            ))
        })?;
        certificate.check_times(option, path)?;
        Ok((certificate, identity))
    }

    fn read(option: &str, path: &Path) -> Result<Self, Failure> {
        let file = path.display();
        let pem = std::fs::read(path)
            .map_err(|error| Failure::usage(format!("{option}: {file} cannot be read: {error}")))?;
        let leaf = Pem::iter_from_buffer(&pem)
            .filter_map(Result::ok)
            .find(|block| block.label == "CERTIFICATE")
            .filter(|block| block.parse_x509().is_ok());
        match leaf {
            Some(leaf) => Ok(Self { pem, leaf }),
            None => Err(Failure::usage(format!(
                "{option}: {file} holds no certificate in PEM"
            ))),
        }
    }

    fn parsed(&self) -> X509Certificate<'_> {
        // `read` has parsed it.
        self.leaf.parse_x509().expect("it was parsed before")
    }

    fn check_times(&self, option: &str, path: &Path) -> Result<(), Failure> {
        let (validity, now) = (self.parsed().validity().clone(), ASN1Time::now());
        let file = path.display();
        if now > validity.not_after {
            return Err(Failure::usage(format!(
                "{option}: {file} expired at {}: issue a new one (this machine's clock says {now})",
                validity.not_after
            )));
        }
        if now < validity.not_before {
            return Err(Failure::usage(format!(
                "{option}: {file} is valid from {} on: is this machine's clock right? It says {now}",
                validity.not_before
            )));
        }
        Ok(())
    }

    /// The origins of its names with this port. Wildcards name no origin.
    pub(crate) fn origins(&self, port: u16) -> Vec<Origin> {
        let certificate = self.parsed();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| names.value.general_names.iter());
        let hosts = names.into_iter().flatten().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            }),
            _ => None,
        });
        hosts
            .filter_map(|host| format!("https://{host}:{port}").parse().ok())
            .collect()
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv4Addr::from(bytes).into()),
        _ => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| Ipv6Addr::from(bytes).into()),
    }
}

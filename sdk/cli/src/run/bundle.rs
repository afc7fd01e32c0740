//! The files of certificate authorities that the command is given.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::environment::{ADDING, REPLACING};
use crate::failure::Failure;
use crate::pem_text::certificate as pem;

/// The files, each with its text.
#[derive(Debug, Default)]
pub(crate) struct Bundles(pub(crate) Vec<(&'static str, Vec<u8>)>);

impl Bundles {
    /// For each variable: what the file that it named before holds, or the machine's authorities
    /// where it must hold all, and the local authority.
    ///
    /// # Errors
    /// A file that a variable named cannot be read: without it, the command would not have worked
    /// either.
    pub(crate) fn new(
        inherited: &[(OsString, OsString)],
        machine: &[CertificateDer<'_>],
        local: &CertificateDer<'_>,
    ) -> Result<Self, Failure> {
        let former = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
            let variable = inherited
                .iter()
                .find(|(known, _)| known == OsStr::new(name));
            let Some((_, path)) = variable.filter(|(_, path)| !path.is_empty()) else {
                return Ok(None);
            };
            let path = Path::new(path);
            // Python's requests and OpenSSL take one, too.
            if path.is_dir() {
                let found = rustls_native_certs::load_certs_from_paths(None, Some(path));
                return Ok(Some(found.certs.iter().map(pem).collect::<String>().into()));
            }
            std::fs::read(path).map(Some).map_err(|error| {
                let path = path.display();
                Failure::usage(format!(
                    "{name} names {path}, which cannot be read: {error}"
                ))
            })
        };
        let local = pem(local);
        let mut files = Vec::new();
        for name in REPLACING {
            let text = match former(name)? {
                Some(text) => text,
                None => machine.iter().map(pem).collect::<String>().into_bytes(),
            };
            files.push((name, join(text, &local)));
        }
        for name in ADDING {
            files.push((name, join(former(name)?.unwrap_or_default(), &local)));
        }
        Ok(Self(files))
    }
}

/// The name of a variable's file in the private directory.
pub(crate) fn file_name(variable: &str) -> String {
    format!("{}.pem", variable.to_ascii_lowercase().replace('_', "-"))
}

fn join(mut text: Vec<u8>, local: &str) -> Vec<u8> {
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend_from_slice(local.as_bytes());
    text
}

#[cfg(test)]
mod tests;

//! Where agents connect, as it is written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A name in the network namespace: no file, and so no permissions.
    Abstract(String),
}

impl Address {
    /// Reads `ADDRESS:PORT`, `unix:PATH` or `unix:@NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match (path, path.strip_prefix('@')) {
                ("", _) => Err("unix: is followed by a path, or by @ and a name".to_owned()),
                (_, Some("")) => Err("unix:@ is followed by a name".to_owned()),
                (_, Some(name)) => Ok(Self::Abstract(name.to_owned())),
                (path, None) => Ok(Self::Unix(path.into())),
            };
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "it is none of ADDRESS:PORT, unix:PATH and unix:@NAME".to_owned())?;
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

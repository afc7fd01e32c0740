//! `--resolve` and `--connect-to`: where to connect for the URL's host and port.

use bowline::client::Origin;
use http::uri::Authority;

use super::options::CallOptions;
use crate::failure::Failure;

/// The places to connect to for `origin`; none where no option is about it.
///
/// As in curl, `--connect-to` comes first, and what it leads to may be resolved by `--resolve`. The
/// first option that fits counts.
pub(super) fn places(options: &CallOptions, origin: &Origin) -> Result<Vec<Authority>, Failure> {
    let mut at = HostPort {
        host: origin.host().to_owned(),
        port: origin.port(),
    };
    let mut is_elsewhere = false;
    for rule in &options.connect_to {
        let rule = ConnectTo::parse(rule)?;
        if !is_elsewhere && rule.from.fits(&at) {
            at = HostPort {
                host: rule.to.host.unwrap_or(at.host),
                port: rule.to.port.unwrap_or(at.port),
            };
            is_elsewhere = true;
        }
    }
    let mut addresses = None;
    for rule in &options.resolve {
        let rule = Resolve::parse(rule)?;
        if addresses.is_none() && rule.from.fits(&at) {
            addresses = Some(rule.addresses);
        }
    }
    match addresses {
        Some(addresses) => addresses
            .iter()
            .map(|address| authority(address, at.port))
            .collect(),
        None if is_elsewhere => Ok(vec![authority(&at.host, at.port)?]),
        None => Ok(Vec::new()),
    }
}

struct HostPort {
    host: String,
    port: u16,
}

/// `None` is any, or the same.
struct Pattern {
    host: Option<String>,
    port: Option<u16>,
}

impl Pattern {
    fn fits(&self, at: &HostPort) -> bool {
        self.host
            .as_ref()
            .is_none_or(|host| host.eq_ignore_ascii_case(&at.host))
            && self.port.is_none_or(|port| port == at.port)
    }
}

struct ConnectTo {
    from: Pattern,
    to: Pattern,
}

impl ConnectTo {
    fn parse(text: &str) -> Result<Self, Failure> {
        let parts = split(text);
        let wrong = || {
            Failure::usage(format!(
                "--connect-to `{text}`: give HOST1:PORT1:HOST2:PORT2, an IPv6 address in brackets"
            ))
        };
        let [host1, port1, host2, port2] = parts.as_slice() else {
            return Err(wrong());
        };
        Ok(Self {
            from: pattern(host1, port1).ok_or_else(wrong)?,
            to: pattern(host2, port2).ok_or_else(wrong)?,
        })
    }
}

struct Resolve {
    from: Pattern,
    addresses: Vec<String>,
}

impl Resolve {
    fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "--resolve `{text}`: give HOST:PORT:ADDR[,ADDR]…, with IP addresses"
            ))
        };
        let (host, port, rest) = match split(text).as_slice() {
            [host, port, rest @ ..] if !rest.is_empty() => {
                (*host, *port, &text[host.len() + port.len() + 2..])
            }
            _ => return Err(wrong()),
        };
        let host = if host == "*" { "" } else { host };
        let addresses: Option<Vec<String>> = rest.split(',').map(ip_address).collect();
        Ok(Self {
            from: pattern(host, port)
                .filter(|from| from.port.is_some())
                .ok_or_else(wrong)?,
            addresses: addresses.ok_or_else(wrong)?,
        })
    }
}

/// The parts between colons, those within brackets aside.
fn split(text: &str) -> Vec<&str> {
    let mut in_brackets = false;
    text.split(move |c| {
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            _ => {}
        }
        c == ':' && !in_brackets
    })
    .collect()
}

fn pattern(host: &str, port: &str) -> Option<Pattern> {
    let port = match port {
        "" => None,
        port => Some(port.parse().ok()?),
    };
    let host = (!host.is_empty()).then(|| host.to_owned());
    Some(Pattern { host, port })
}

/// As an authority writes it: IPv6 in brackets.
fn ip_address(text: &str) -> Option<String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match bare.parse().ok()? {
        std::net::IpAddr::V4(address) => Some(address.to_string()),
        std::net::IpAddr::V6(address) => Some(format!("[{address}]")),
    }
}

fn authority(host: &str, port: u16) -> Result<Authority, Failure> {
    let text = format!("{host}:{port}");
    text.parse()
        .map_err(|_| Failure::usage(format!("`{text}` is no host with a port")))
}

#[cfg(test)]
mod tests;

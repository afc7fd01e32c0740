//! `NO_PROXY`: which hosts are reached directly, by curl's rules.
//!
//! - Entries are separated by commas, white space, or both; compared without case.
//! - `*`, as the whole list, exempts every host.
//! - A name exempts itself and every name below it: `example.com` exempts `www.example.com`, not
//!   `notexample.com`. A leading dot and a trailing dot count for nothing.
//! - An IP address exempts itself, an IP network (`10.0.0.0/8`, `fd00::/8`) every address in it.
//!   Names are not resolved.
//!
//! Ports, patterns (`*.example.com`) and IPv6 addresses in brackets have no meaning in curl's lists
//! and exempt nothing; such entries are reported once.

use std::net::IpAddr;

#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy {
    exempts_all: bool,
    entries: Vec<Entry>,
    /// Which entries, counted from 1, can match no host.
    unmatchable: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Entry {
    /// In lower case, without dots at its ends.
    Name(String),
    Network {
        address: IpAddr,
        prefix: u8,
    },
}

impl NoProxy {
    pub(super) fn parse(list: &str) -> Self {
        let mut parsed = Self {
            exempts_all: list.trim() == "*",
            ..Self::default()
        };
        if parsed.exempts_all {
            return parsed;
        }
        let entries = list
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|entry| !entry.is_empty());
        for (at, entry) in entries.enumerate() {
            match Entry::parse(entry) {
                Some(entry) => parsed.entries.push(entry),
                None => parsed.unmatchable.push(at + 1),
            }
        }
        parsed
    }

    /// The entries that exempt nothing, as a person counts them.
    pub(super) fn unmatchable(&self) -> Option<String> {
        let numbers: Vec<_> = self
            .unmatchable
            .iter()
            .map(|at| format!("number {at}"))
            .collect();
        (!numbers.is_empty()).then(|| numbers.join(", "))
    }

    /// Whether this host is reached directly: a name, or an address, in brackets if it is IPv6.
    pub(super) fn matches(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.exempts_all
            || self.entries.iter().any(|entry| match (entry, address) {
                (
                    Entry::Network {
                        address: network,
                        prefix,
                    },
                    Some(address),
                ) => is_within(address, *network, *prefix),
                (Entry::Name(suffix), None) => name
                    .strip_suffix(&**suffix)
                    .is_some_and(|before| before.is_empty() || before.ends_with('.')),
                _ => false,
            })
    }
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let (host, prefix) = match entry.split_once('/') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (entry, None),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            let longest = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                None => longest,
                Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= longest)?,
            };
            return Some(Self::Network { address, prefix });
        }
        let name = entry.strip_suffix('.').unwrap_or(entry);
        let name = name.strip_prefix('.').unwrap_or(name);
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        (!name.is_empty() && name.bytes().all(belongs))
            .then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let bits = |address| match address {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, true),
        IpAddr::V6(ip) => (u128::from(ip), false),
    };
    let ((address, is_v4), (network, is_network_v4)) = (bits(address), bits(network));
    let differing = (address ^ network).leading_zeros();
    is_v4 == is_network_v4 && differing >= u32::from(prefix)
}

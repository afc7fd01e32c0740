//! Where tunnels to other hosts may lead (GW-7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use http::StatusCode;

use super::answer::Refused;
use super::names::HostPort;

/// What happens to hosts that are not allowed origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Others {
    /// Passed through as they are, without a proof
    Tunnel,
    /// Refused
    Refuse,
}

/// Where a tunnel may lead.
#[derive(Clone, Debug)]
pub(crate) struct TunnelPolicy {
    pub(crate) others: Others,
    /// `None`: any.
    pub(crate) port: Option<u16>,
    pub(crate) private_ranges: bool,
    /// Where the egress itself listens.
    pub(crate) own: Vec<SocketAddr>,
}

impl TunnelPolicy {
    /// What can be told before the name is resolved.
    ///
    /// # Errors
    /// 403 with the option that would allow it.
    pub(crate) fn check_name(&self, target: &HostPort) -> Result<(), Refused> {
        if self.others == Others::Refuse {
            return Err(forbidden(
                "others",
                format!(
                    "{target} is not an allowed origin: --allow https://{target} makes it one, \
                     --others tunnel passes other hosts through"
                ),
            ));
        }
        if self.port.is_some_and(|port| port != target.port()) {
            return Err(forbidden(
                "tunnel_port",
                format!("{target}: tunnels lead to port 443 only"),
            ));
        }
        match target.ip() {
            None => Ok(()),
            Some(ip) => self.check_address(SocketAddr::new(ip, target.port())),
        }
    }

    /// All that a name resolved to. One address that is forbidden forbids the name, so that no second
    /// answer of its server can change that.
    ///
    /// # Errors
    /// 403 for a forbidden address.
    pub(crate) fn check_addresses(&self, resolved: &[SocketAddr]) -> Result<(), Refused> {
        resolved
            .iter()
            .try_for_each(|address| self.check_address(*address))
    }

    fn check_address(&self, address: SocketAddr) -> Result<(), Refused> {
        let ip = plain(address.ip());
        let is_own = self
            .own
            .iter()
            .any(|own| own.port() == address.port() && is_at(plain(own.ip()), ip));
        let kind = match never(ip) {
            _ if is_own => Some("this egress itself"),
            Some(kind) => Some(kind),
            None if !self.private_ranges && is_private(ip) => Some("an address of a private range"),
            None => None,
        };
        match kind {
            None => Ok(()),
            Some(kind) => Err(forbidden(
                "tunnel_address",
                format!("a tunnel to {ip} would lead to {kind}, and never does"),
            )),
        }
    }
}

/// Whether a listener on `own` is reached by `ip`.
fn is_at(own: IpAddr, ip: IpAddr) -> bool {
    // On all addresses of this machine: what a socket can be bound to is one of them. An IPv6 socket
    // may have IPv4 connections, too.
    own == ip || (own.is_unspecified() && UdpSocket::bind((ip, 0)).is_ok())
}

fn forbidden(reason: &'static str, text: String) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, reason, text)
}

/// An IPv4 address that is written as an IPv6 one is the same destination: mapped (RFC 4291 section
/// 2.5.5), by NAT64 (RFC 6052) or by 6to4 (RFC 3056).
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let segments = v6.segments();
    let pair = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] => pair(high, low),
        // IPv4-compatible, but for `::` and `::1`.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => pair(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => pair(high, low),
        [0x2002, high, low, ..] => pair(high, low),
        _ => ip,
    }
}

fn never(ip: IpAddr) -> Option<&'static str> {
    const EC2: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const METADATA: [IpAddr; 3] = [
        IpAddr::V6(EC2),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    ];
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    // 0.0.0.0/8 reaches this machine on Linux.
    let is_here = match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    };
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    match () {
        () if METADATA.contains(&ip) => Some("a cloud's metadata service"),
        () if is_link_local => Some("a link-local address"),
        () if is_here => Some("this machine"),
        () if ip.is_multicast() || is_broadcast => Some("more than one machine"),
        () => None,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        // RFC 1918, and RFC 6598's 100.64.0.0/10.
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || (first == 100 && second & 0xc0 == 64)
        }
        // RFC 4193, and RFC 3879's fec0::/10.
        IpAddr::V6(v6) => v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

#[cfg(test)]
mod tests;

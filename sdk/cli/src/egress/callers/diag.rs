//! The owner of one TCP socket, asked of the kernel (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Uid;

const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// `inet_diag_msg` up to the inode.
const ANSWER: usize = HEADER + 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const ESTABLISHED: u8 = 1;
const ALL_STATES: u32 = u32::MAX;
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// The user of the established socket whose own address is `local` and whose peer is `remote`, if a
/// process still holds it. `None` if there is no such socket, or the kernel cannot tell.
///
/// # Errors
/// It cannot be asked.
pub(super) fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Uid>> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    send(&kernel, &request(local, remote), SendFlags::empty())?;
    let mut answer = [0; 1024];
    // It is there when `send` returns.
    let (length, _) = recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    Ok(read(&answer[..length]))
}

/// `nlmsghdr` and `inet_diag_req_v2`.
fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let mut message = Vec::with_capacity(REQUEST);
    message.extend((REQUEST as u32).to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port.
    message.extend([0; 8]);
    message.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    message.extend(ALL_STATES.to_ne_bytes());
    for port in [local.port(), remote.port()] {
        message.extend(port.to_be_bytes());
    }
    for ip in [local.ip(), remote.ip()] {
        message.extend(octets(ip));
    }
    // Any interface.
    message.extend([0; 4]);
    message.extend(NO_COOKIE);
    message
}

fn octets(ip: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match ip {
        IpAddr::V4(v4) => octets[..4].copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => octets = v6.octets(),
    }
    octets
}

/// `nlmsghdr` and `inet_diag_msg`.
fn read(answer: &[u8]) -> Option<Uid> {
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let is_socket = kind == SOCK_DIAG_BY_FAMILY && answer.len() >= ANSWER;
    let state = answer.get(HEADER + 1)?;
    let (uid, inode) = (word(HEADER + 64)?, word(HEADER + 68)?);
    // Without a process that holds it, it is shown as root's.
    (is_socket && *state == ESTABLISHED && inode != 0).then_some(uid)
}

#[cfg(test)]
mod tests;

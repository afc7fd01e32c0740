//! Which user a connection is of (GW-5).

mod diag;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::Arc;

/// Of this process's network namespace.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// A user id as the kernel shows it to this process.
pub(crate) type Uid = u32;

/// Whether the kernel says whose a TCP connection of this machine is. Where there is no table, as in a
/// `/proc` of processes alone, it may still tell of single sockets.
pub(crate) fn are_told() -> bool {
    std::fs::read_to_string(TABLES[0]).is_ok() || own_is_told().unwrap_or(false)
}

/// Whether the kernel knows a connection of this process with itself. That it answers is not enough:
/// without its part for TCP it calls every socket unknown.
fn own_is_told() -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let local = listener.local_addr()?;
    let agent = TcpStream::connect(local)?;
    let owner = diag::owner(agent.local_addr()?, local)?;
    Ok(owner == Some(rustix::process::geteuid().as_raw()))
}

/// A user as options name it: `uid:1001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User(pub(crate) Uid);

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix("uid:");
        // `parse` alone would take a sign.
        let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let uid = number.and_then(|number| number.parse().ok());
        // The last number stands for no user at all (setuid(2)).
        match uid.filter(|uid| *uid != Uid::MAX) {
            Some(uid) => Ok(Self(uid)),
            None => Err("a user is named by uid: and its number, such as uid:1001".to_owned()),
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid:{}", self.0)
    }
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    User(Uid),
    /// The kernel does not say it: a caller that has shown the credential of `run`, or a certificate.
    Unknown,
}

/// The users that may connect.
#[derive(Clone, Debug)]
pub(crate) struct Callers {
    admitted: Arc<[Uid]>,
    overflow: Uid,
    /// Whether this process sees every user id of the machine: then the overflow id is a user's.
    all_mapped: bool,
}

impl Callers {
    /// This process's own user.
    pub(crate) fn own() -> Self {
        Self::only(&[rustix::process::geteuid().as_raw()])
    }

    /// These, or this process's own user if there are none.
    ///
    /// # Errors
    /// One of them is not told from others.
    pub(crate) fn named(names: &[User]) -> Result<Self, String> {
        if names.is_empty() {
            return Ok(Self::own());
        }
        let uids: Vec<Uid> = names.iter().map(|name| name.0).collect();
        let callers = Self::only(&uids);
        callers.check_told_apart()?;
        Ok(callers)
    }

    /// Nobody: beyond loopback the kernel does not say whose a connection is.
    pub(crate) fn unknown() -> Self {
        Self::only(&[])
    }

    /// Whether callers are known by their users.
    pub(crate) fn are_known(&self) -> bool {
        !self.admitted.is_empty()
    }

    fn check_told_apart(&self) -> Result<(), String> {
        match self.admitted.iter().find(|uid| !self.admits(**uid)) {
            None => Ok(()),
            Some(uid) => Err(format!(
                "--callers {}: that number is shown for every user that this user namespace does not \
                 map, so it says of nobody who it is",
                User(*uid)
            )),
        }
    }

    fn only(uids: &[Uid]) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let overflow = read("/proc/sys/kernel/overflowuid");
        Self {
            admitted: uids.into(),
            overflow: overflow.trim().parse().unwrap_or(65534),
            all_mapped: maps_all(&read("/proc/self/uid_map")),
        }
    }

    /// Whether a connection of this user may be used. An id that this process's user namespace does
    /// not map is shown as the overflow id, and must not look like a user of that id.
    pub(crate) fn admits(&self, uid: Uid) -> bool {
        self.admitted.contains(&uid) && (uid != self.overflow || self.all_mapped)
    }

    /// Whether there is nobody but this process's own user.
    pub(crate) fn are_own(&self) -> bool {
        *self.admitted == [rustix::process::geteuid().as_raw()]
    }
}

impl fmt::Display for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.admitted.iter().map(|uid| User(*uid).to_string());
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

/// Looks up in the kernel's socket table which user holds the other end: by asking for that one
/// socket, or else by reading the table, which takes a thousand times as long. `None`: no process
/// does.
///
/// # Errors
/// The table cannot be read.
pub(crate) fn tcp_owner(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Uid>> {
    match diag::owner(plain(peer), plain(local)) {
        Ok(Some(uid)) => return Ok(Some(uid)),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the kernel does not tell of single sockets"),
    }
    for path in TABLES {
        let table = match std::fs::read_to_string(path) {
            Ok(table) => table,
            // A kernel without IPv6.
            Err(error) if path.ends_with('6') && error.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(uid) = owner(&table, peer, local) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// Whether a `uid_map` maps every id to itself, as outside of user namespaces.
fn maps_all(uid_map: &str) -> bool {
    let mut lines = uid_map.lines();
    let line: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    lines.next().is_none() && line == ["0", "0", "4294967295"]
}

/// The owner of the socket whose own address is `local_of_socket` and whose peer is `remote`, in
/// the text of `/proc/net/tcp` or `tcp6`.
///
/// Only an established socket counts that a process still holds: the kernel shows one without a
/// process as root's.
fn owner(table: &str, local_of_socket: SocketAddr, remote: SocketAddr) -> Option<Uid> {
    const ESTABLISHED: &str = "01";
    // The table has a line for each connection of the machine: most are told apart by this.
    let ports = [local_of_socket, remote].map(|end| format!(":{:04X} ", end.port()));
    let lines = table.lines().skip(1);
    let mut likely = lines.filter(|line| ports.iter().all(|port| line.contains(port)));
    likely.find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, peer, state, _, _, _, uid, _, inode, ..] = fields[..] else {
            return None;
        };
        let is_it = state == ESTABLISHED
            && inode != "0"
            && address(local) == Some(plain(local_of_socket))
            && address(peer) == Some(plain(remote));
        is_it.then(|| uid.parse().ok()).flatten()
    })
}

/// `0100007F:1F90`: words of 32 bits in the machine's byte order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<[u8; 4]>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
            Some(word.to_ne_bytes())
        })
        .collect();
    let bytes = words?.concat();
    let ip = match *bytes {
        [a, b, c, d] => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(plain(SocketAddr::new(ip, port)))
}

/// An IPv6 socket may hold an IPv4 connection.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;

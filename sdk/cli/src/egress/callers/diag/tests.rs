use std::net::{TcpListener, TcpStream};

use super::*;

fn own() -> Uid {
    rustix::process::geteuid().as_raw()
}

/// Where the kernel cannot be asked, the table is read instead: `callers/tests.rs`.
#[test]
fn an_open_connection_has_an_owner_and_a_closed_one_has_none() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            assert_eq!(address, "[::1]:0", "a machine without IPv6");
            continue;
        };
        let local = listener.local_addr().expect("an address");
        let agent = TcpStream::connect(local).expect("a connection");
        let peer = agent.local_addr().expect("an address");
        let (accepted, _) = listener.accept().expect("accepted");
        let told = owner(peer, local).expect("the kernel answers");
        assert_eq!(told, Some(own()), "{address}");
        // Not the listener, not another port.
        let mut other = peer;
        other.set_port(peer.port() ^ 1);
        assert_eq!(owner(other, local).expect("the kernel answers"), None);
        let no_peer = SocketAddr::new(local.ip(), 1);
        assert_eq!(owner(local, no_peer).expect("the kernel answers"), None);
        // A process holds it no more.
        drop(agent);
        assert_eq!(owner(peer, local).expect("the kernel answers"), None);
        drop(accepted);
    }
}

#[test]
fn what_is_no_whole_answer_names_nobody() {
    let mut whole = vec![0; ANSWER];
    whole[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    whole[HEADER + 1] = ESTABLISHED;
    whole[HEADER + 64..HEADER + 68].copy_from_slice(&1001_u32.to_ne_bytes());
    assert_eq!(read(&whole), None, "no inode");
    whole[HEADER + 68] = 1;
    assert_eq!(read(&whole), Some(1001));
    for length in 0..ANSWER {
        assert_eq!(read(&whole[..length]), None, "{length}");
    }
    whole[HEADER + 1] = 6;
    assert_eq!(read(&whole), None, "TIME_WAIT");
    whole[HEADER + 1] = ESTABLISHED;
    // NLMSG_ERROR
    whole[4..6].copy_from_slice(&2_u16.to_ne_bytes());
    assert_eq!(read(&whole), None);
}

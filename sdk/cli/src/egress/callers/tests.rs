use super::*;

/// As Linux 6.1 on a little-endian machine writes it.
const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 41 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000  1000        0 42 1 0 20 4 0 10 -1
   2: 0100007F:C000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 43 1 0 20 4 0 10 -1
   3: 0100007F:C001 0100007F:1F90 06 00000000:00000000 03:00001234 00000000     0        0 0 3 0
   4: 0100007F:C002 0100007F:1F90 04 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 0 10 -1
   5: 0100007F:C003 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 0 10 -1
   6: 0100007F:C004 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 44 1 0 20 4 0 10 -1
   7: broken
";
const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:C005 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 45 1 0 20 4 0 10 -1
   1: 00000000000000000000000001000000:C006 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000 00000000  1003        0 46 1 0 20 4 0 10 -1
";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[cfg(target_endian = "little")]
#[test]
fn the_other_ends_owner_is_found_in_the_socket_table() {
    let listener = at("127.0.0.1:8080");
    let owner_of = |table, port: u16| owner(table, SocketAddr::new(listener.ip(), port), listener);
    // Another user's, and not the listener's own end of the same connection.
    assert_eq!(owner_of(TCP, 0xC000), Some(1001));
    for (port, why) in [
        (0xC001, "TIME_WAIT"),
        (0xC002, "FIN_WAIT1"),
        (0xC003, "no process holds it: shown as root's"),
        (0xC004, "to another port"),
        (0xC0FF, "not there"),
    ] {
        assert_eq!(owner_of(TCP, port), None, "{why}");
    }
    // An IPv6 socket with an IPv4 connection, and one on `::1`.
    assert_eq!(owner_of(TCP6, 0xC005), Some(1002));
    assert_eq!(owner(TCP6, at("[::1]:49158"), at("[::1]:8080")), Some(1003));
    assert_eq!(owner("", listener, listener), None);
}

#[test]
fn only_the_named_users_are_admitted_and_no_unmapped_one() {
    let callers = |admitted: &[Uid], all_mapped| Callers {
        admitted: admitted.into(),
        overflow: 65534,
        all_mapped,
    };
    for (named, all_mapped, uid, admitted) in [
        (&[1000][..], true, 1000, true),
        (&[1000], true, 1001, false),
        (&[1000], true, 0, false),
        (&[1000], false, 1000, true),
        (&[1000, 1001], true, 1001, true),
        (&[1000, 1001], true, 1002, false),
        (&[65534], true, 65534, true),
        (&[65534], false, 65534, false),
    ] {
        assert_eq!(
            callers(named, all_mapped).admits(uid),
            admitted,
            "{named:?} {all_mapped} {uid}"
        );
    }
    let own = rustix::process::geteuid().as_raw();
    for (named, are_own) in [
        (&[own][..], true),
        (&[own, own + 1], false),
        (&[own + 1], false),
    ] {
        assert_eq!(callers(named, true).are_own(), are_own, "{named:?}");
    }
    assert!(Callers::own().are_own());
    assert_eq!(callers(&[1000, 65534], true).check_told_apart(), Ok(()));
    let refused = callers(&[1000, 65534], false).check_told_apart();
    assert!(refused.is_err_and(|why| why.contains("--callers uid:65534: ")));
}

#[test]
fn a_caller_is_the_number_of_a_user() {
    assert_eq!("uid:1001".parse(), Ok(User(1001)));
    assert_eq!("uid:0".parse(), Ok(User(0)));
    for text in [
        "1001",
        "uid:",
        "uid:agent",
        "uid:+1",
        "uid:-1",
        "uid: 1",
        "uid:4294967295",
        "uid:4294967296",
        "gid:1",
        "",
    ] {
        let error = text.parse::<User>().expect_err(text);
        assert!(error.contains("such as uid:1001"), "{text}: {error}");
    }
}

#[test]
fn a_uid_map_is_of_all_ids_or_not() {
    for (map, all) in [
        ("         0          0 4294967295\n", true),
        ("         0       1000          1\n", false),
        ("         0          0 4294967294\n", false),
        ("0 0 1000\n1000 1000 4294966295\n", false),
        ("", false),
    ] {
        assert_eq!(maps_all(map), all, "{map:?}");
    }
}

/// Without the table: with it nothing is tried.
#[test]
fn that_the_kernel_tells_of_single_sockets_is_tried() {
    assert!(own_is_told().expect("the kernel answers"));
}

#[test]
fn a_real_connection_of_this_process_is_its_user_s() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = std::net::TcpListener::bind(address).expect("a port");
        let local = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(local).expect("a connection");
        let (_accepted, peer) = listener.accept().expect("the connection");
        let owner = tcp_owner(peer, local).expect("the table");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(owner, Some(own), "{address}");
        // Nobody's.
        let elsewhere = SocketAddr::new(peer.ip(), 1);
        assert_eq!(tcp_owner(elsewhere, local).expect("the table"), None);
        drop(client);
    }
}

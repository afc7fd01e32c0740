use super::*;

fn policy() -> TunnelPolicy {
    TunnelPolicy {
        others: Others::Tunnel,
        port: None,
        private_ranges: true,
        own: vec!["192.0.2.7:8080".parse().expect("an address")],
    }
}

fn resolved(policy: &TunnelPolicy, addresses: &[&str]) -> Result<(), u16> {
    let addresses = addresses.iter().map(|text| {
        let ip: IpAddr = text.parse().unwrap_or_else(|_| panic!("{text}"));
        SocketAddr::new(ip, 443)
    });
    let addresses: Vec<SocketAddr> = addresses.collect();
    let checked = policy.check_addresses(&addresses);
    checked.map_err(|refused| refused.status.as_u16())
}

const NEVER: [&str; 26] = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "febf::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::a83f:8110",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "::ffff:100.100.100.200",
];

#[test]
fn tunnels_never_lead_to_this_machine_nor_to_metadata() {
    let policy = policy();
    for address in NEVER {
        assert_eq!(resolved(&policy, &[address]), Err(403), "{address}");
        // As a literal in the `CONNECT`, too.
        let ip: IpAddr = address.parse().expect("an address");
        let target = HostPort::parse(&SocketAddr::new(ip, 443).to_string()).expect("a target");
        assert!(policy.check_name(&target).is_err(), "{address}");
    }
    for address in [
        "192.0.2.1",
        "8.8.8.8",
        "169.253.1.1",
        "2001:db8::1",
        "fec0::1",
        "10.0.0.1",
    ] {
        assert_eq!(resolved(&policy, &[address]), Ok(()), "{address}");
    }
}

#[test]
fn one_forbidden_address_forbids_the_name() {
    let policy = policy();
    assert_eq!(resolved(&policy, &["192.0.2.1", "127.0.0.1"]), Err(403));
    assert_eq!(resolved(&policy, &["192.0.2.1", "2001:db8::1"]), Ok(()));
}

#[test]
fn private_ranges_are_a_matter_of_configuration() {
    let mut policy = policy();
    policy.private_ranges = false;
    for private in [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "fd12::1",
        "fc00::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
    ] {
        assert_eq!(resolved(&policy, &[private]), Err(403), "{private}");
    }
    for public in ["172.32.0.1", "100.128.0.1", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(resolved(&policy, &[public]), Ok(()), "{public}");
    }
}

#[test]
fn ports_and_others_and_the_listener_itself() {
    let mut policy = policy();
    let check = |policy: &TunnelPolicy, target: &str| {
        policy.check_name(&HostPort::parse(target).expect("a target"))
    };
    assert!(check(&policy, "other.example:8443").is_ok());
    assert!(
        check(&policy, "192.0.2.7:8080").is_err(),
        "the egress itself"
    );
    assert!(check(&policy, "192.0.2.7:8081").is_ok());
    policy.port = Some(443);
    assert!(check(&policy, "other.example").is_ok());
    assert_eq!(
        check(&policy, "other.example:22")
            .expect_err("a port")
            .reason,
        "tunnel_port"
    );
    policy.others = Others::Refuse;
    let refused = check(&policy, "other.example").expect_err("others");
    assert_eq!((refused.status.as_u16(), refused.reason), (403, "others"));
    let text = format!("{refused:?}");
    assert!(text.contains("--allow https://other.example"), "{text}");
}

/// On all addresses it listens on those of this machine, and on no other.
#[test]
fn a_listener_on_all_addresses_is_never_reached_by_a_tunnel() {
    let kind = |own: &str, target: &str| {
        let policy = TunnelPolicy {
            own: vec![own.parse().expect("an address")],
            ..policy()
        };
        let checked = policy.check_addresses(&[target.parse().expect("an address")]);
        checked.map_err(|refused| refused.text)
    };
    for own in ["0.0.0.0:443", "[::]:443"] {
        let refused = kind(own, "127.0.0.1:443").expect_err("refused");
        assert!(refused.contains("this egress itself"), "{refused}");
        let other_port = kind(own, "127.0.0.1:444").expect_err("refused");
        assert!(other_port.contains("this machine"), "{other_port}");
        // Of a documentation range (RFC 5737).
        assert_eq!(kind(own, "203.0.113.7:443"), Ok(()));
    }
}

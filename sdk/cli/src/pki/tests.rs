use std::path::Path;

use super::spiffe::SpiffeId;
use super::{Name, server_name, word};

#[test]
fn names_of_certificates_are_plain_file_names() {
    for good in ["agent", "agent-7", "a.b_c", "7"] {
        assert!(Name::parse(good).is_ok(), "{good}");
    }
    let long = "a".repeat(65);
    for bad in [
        "", ".", "..", "../x", "a/b", "-v", ".hidden", "a b", "ä", &long,
    ] {
        assert!(Name::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn names_of_servers_are_dns_names_or_addresses() {
    for good in [
        "localhost",
        "api.example.com",
        "*.example.com",
        "192.0.2.7",
        "::1",
    ] {
        assert!(server_name(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "a..b",
        "-a",
        "a.*.b",
        "https://a",
        "a:1",
        "ä.example",
        "a.",
        "*",
    ] {
        assert!(server_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn spiffe_ids_keep_to_their_grammar() {
    for good in [
        "spiffe://example.com",
        "spiffe://example.com/agent/7",
        "spiffe://a_b-c.1/X.y-z_0",
    ] {
        assert!(SpiffeId::parse(good).is_ok(), "{good}");
    }
    let long = format!("spiffe://example.com/{}", "a".repeat(2048));
    for bad in [
        "",
        "spiffe:/example.com",
        "SPIFFE://example.com/a",
        "https://example.com/a",
        "spiffe:///a",
        "spiffe://Example.com/a",
        "spiffe://example.com:8443/a",
        "spiffe://u@example.com/a",
        "spiffe://example.com/",
        "spiffe://example.com/a/",
        "spiffe://example.com//a",
        "spiffe://example.com/a/../b",
        "spiffe://example.com/a?b",
        "spiffe://example.com/%61",
        "spiffe://example.com/ä",
        &long,
    ] {
        assert!(SpiffeId::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_path_is_one_word_of_a_shell() {
    assert_eq!(word(Path::new("/a/b-c.pem")), "/a/b-c.pem");
    assert_eq!(word(Path::new("my dir/it's")), r"'my dir/it'\''s'");
}

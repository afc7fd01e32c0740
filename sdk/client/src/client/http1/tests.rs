//! Reading what an HTTP/1.1 server says of its connection.

use http::HeaderValue;

use super::*;

fn fields(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
    lines
        .iter()
        .map(|line| (name.clone(), HeaderValue::from_bytes(line).unwrap()))
        .collect()
}

/// K2: a byte that is not text hides its own member and no other.
#[test]
fn close_is_found_among_all_members_of_all_lines() {
    for (lines, closes) in [
        (&[&b"close"[..]][..], true),
        (&[b"x-y\xff, Close"], true),
        (&[b"\xe9", b" close ,"], true),
        (&[b"keep-alive, x-close"], false),
        (&[b"close\xe9"], false),
        (&[], false),
    ] {
        let headers = fields(&header::CONNECTION, lines);
        assert_eq!(says_close(Version::HTTP_11, &headers), closes, "{lines:?}");
    }
    assert!(says_close(Version::HTTP_10, &HeaderMap::new()));
    let kept = fields(&header::CONNECTION, &[b"\xff, keep-alive"]);
    assert!(!says_close(Version::HTTP_10, &kept));
}

#[test]
fn the_time_of_keep_alive_is_read_beside_members_that_are_not_text() {
    for (lines, seconds, max) in [
        (&[&b"timeout=5, max=100"[..]][..], Some(4), Some(100)),
        (&[b"x=\xe9, TIMEOUT = \"5\""], Some(4), None),
        (&[b"max=1", b"timeout=0"], Some(0), Some(1)),
        (&[b"timeout=soon", b"MAX=many"], None, None),
        (&[b"timeout=\xe9"], None, None),
    ] {
        let found = keep_alive(&fields(&KEEP_ALIVE, lines));
        let timeout = seconds.map(Duration::from_secs);
        assert_eq!(found, KeepAlive { timeout, max }, "{lines:?}");
    }
}

use super::*;

#[test]
fn the_first_bytes_decide_which_protocol_is_followed() {
    let request = b"\0\0\x01\x01\x05\0\0\0\x01\x82";
    let now = Instant::now();
    for size in [1, 5, 24, 1000] {
        let mut h2 = Requests::new();
        // The server may speak first.
        h2.sent(b"\0\0\0\x04\0\0\0\0", now);
        let bytes = [PREFACE, request].concat();
        bytes.chunks(size).for_each(|part| h2.received(part, now));
        h2.sent(b"\0", now);
        assert_eq!((h2.begun(), h2.open()), (true, 1));
        assert!(h2.streams().unwrap().sent_whole_frames());

        let mut h1 = Requests::new();
        let bytes = b"PRI / HTTP/1.1\r\n\r\n";
        bytes.chunks(size).for_each(|part| h1.received(part, now));
        assert_eq!((h1.begun(), h1.open()), (true, 1));
        assert!(h1.streams().is_none());
    }
    let mut short = Requests::new();
    short.received(&PREFACE[..20], now);
    assert!(!short.begun());
}

use super::*;

/// Gives the bytes whole and one by one.
fn each_way(steps: &[(bool, &[u8], usize)]) {
    for whole in [true, false] {
        let mut exchanges = Exchanges::default();
        for (number, (received, bytes, open)) in steps.iter().enumerate() {
            let size = if whole { bytes.len() } else { 1 };
            for part in bytes.chunks(size) {
                if *received {
                    exchanges.received(part);
                } else {
                    exchanges.sent(part);
                }
            }
            assert_eq!(exchanges.open(), *open, "step {number}, whole: {whole}");
        }
    }
}

const GOT: bool = true;
const SENT: bool = false;

#[test]
fn a_request_is_open_from_the_end_of_its_head_to_the_end_of_its_response() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";
    each_way(&[
        (GOT, b"GET / HTTP/1.1\r\nhost: a\r\n", 0),
        (GOT, b"\r\n", 1),
        (SENT, b"HTTP/1.1 100 Continue\r\n\r\n", 1),
        (SENT, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab\n", 1),
        (SENT, b"\n", 0),
        (
            GOT,
            b"\r\n\nPOST / HTTP/1.1\r\ncontent-length: 30\r\n\r\n",
            1,
        ),
        (GOT, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n...", 1),
        (SENT, chunked, 1),
        (SENT, b"a;x=y\r\n0\r\n\r\n\r\n\r\n.\r\n", 1),
        (SENT, b"0\r\ntrailer: x\r\n", 1),
        (SENT, b"\r\n", 0),
    ]);
}

#[test]
fn pipelined_requests_are_counted_and_a_response_to_head_has_no_body() {
    let empty = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    each_way(&[
        (
            GOT,
            b"GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\n\nGET / HTTP/1.1\r\n\r\n",
            3,
        ),
        (SENT, empty, 2),
        (SENT, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", 1),
        (
            SENT,
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
            0,
        ),
        (
            GOT,
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
            1,
        ),
        (GOT, b"5\r\nGET /\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2),
    ]);
}

#[test]
fn a_response_without_a_length_and_a_tunnel_are_open_until_the_end() {
    for (request, response) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ),
        (
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ),
    ] {
        each_way(&[
            (GOT, request, 1),
            (SENT, response, 1),
            (SENT, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 1),
        ]);
    }
}

#[test]
fn what_cannot_be_followed_counts_as_no_request() {
    let mut exchanges = Exchanges::default();
    exchanges.received(&vec![b'a'; MAX_HEAD_BYTES + 1]);
    exchanges.received(b"\r\n\r\n");
    exchanges.sent(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    assert!(!exchanges.begun());
    assert_eq!(exchanges.open(), 0);
    assert_eq!(exchanges.requests.line.capacity(), 0);
}

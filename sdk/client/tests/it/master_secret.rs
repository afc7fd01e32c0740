//! EX-2: TLS 1.2 without extended master secret (RFC 7627) is refused, by the client and by the
//! server. No library at hand offers such a handshake, so its first message is written by hand.

use crate::fixture::slow_key::soon;
use crate::fixture::{Fixture, fetch, jwt};
use bowline_http_client::ErrorKind;
use bowline_testkit::net::loopback;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// `extended_master_secret`, empty.
const EXTENDED_MASTER_SECRET: &[u8] = &[0x00, 0x17, 0x00, 0x00];
/// `ec_point_formats`: uncompressed.
const POINT_FORMATS: &[u8] = &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00];
/// `renegotiation_info`, empty.
const RENEGOTIATION_INFO: &[u8] = &[0xff, 0x01, 0x00, 0x01, 0x00];

const HANDSHAKE_FAILURE: u8 = 40;

fn with_length(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - bytes..], content].concat()
}

/// A ServerHello of TLS 1.2 that chooses ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, in its record.
fn server_hello(is_extended: bool) -> Vec<u8> {
    let mut extensions = [RENEGOTIATION_INFO, POINT_FORMATS].concat();
    if is_extended {
        extensions.extend(EXTENDED_MASTER_SECRET);
    }
    let extensions = with_length(2, &extensions);
    let hello = [
        &[0x03, 0x03][..],
        &[7; 32],
        &[0],
        &[0xc0, 0x2b, 0],
        &extensions,
    ];
    let message = [&[2][..], &with_length(3, &hello.concat())].concat();
    [&[22, 0x03, 0x03][..], &with_length(2, &message)].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ex_2_a_client_refuses_tls_1_2_without_extended_master_secret() {
    for is_extended in [false, true] {
        let fixture = Fixture::new();
        let tcp = loopback();
        let url = format!("https://localhost:{}/", tcp.local_addr().unwrap().port());
        let serving = tokio::spawn(async move {
            let (mut socket, _) = tcp.accept().await.unwrap();
            let mut head = [0; 5];
            socket.read_exact(&mut head).await.unwrap();
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            socket.read_exact(&mut vec![0; length]).await.unwrap();
            socket.write_all(&server_hello(is_extended)).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut alert = Vec::new();
            let _ = socket.read_to_end(&mut alert).await;
            alert
        });
        let (client, token) = (fixture.client(), jwt("plain", None));
        let error = soon(fetch(&client, &url, &token)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
        let names_it = error.to_string().contains("ExtendedMasterSecret");
        // With it, the client goes on and waits for the certificate.
        assert_eq!(names_it, !is_extended, "{error}");
        let alert = soon(serving).await.unwrap();
        let is_refused = alert.get(5..7) == Some(&[2, HANDSHAKE_FAILURE][..]);
        assert_eq!(is_refused, !is_extended, "{alert:?}");
    }
}

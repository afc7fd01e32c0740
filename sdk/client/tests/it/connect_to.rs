//! Connecting to another place than the origin's own host and port.

use bowline_http_client::{ErrorKind, Origin, Proxies, Trust};
use bowline_testkit::peers::CyclingOptions;
use http::uri::Authority;

use crate::fixture::{Fixture, fetch, ok};

fn origin(text: &str) -> Origin {
    text.parse().expect("an origin")
}

fn place(text: &str) -> Authority {
    text.parse().expect("an authority")
}

#[tokio::test]
async fn the_place_is_connected_to_and_the_certificate_is_the_origins() {
    let fixture = Fixture::new();
    let server = fixture.unprotected(CyclingOptions::default());
    let here = place(&format!("127.0.0.1:{}", server.addr().port()));
    // No name server knows a name under `.invalid` (RFC 6761), and the certificate is for localhost.
    let elsewhere = "https://localhost:1";
    let client = fixture
        .builder()
        .proxies(Proxies::none())
        .connect_to(
            origin(elsewhere),
            [place("nowhere.invalid:1"), here.clone()],
        )
        .connect_to(origin("https://other.invalid"), [here])
        .build()
        .unwrap();
    ok(&client, elsewhere, &fixture.token("a")).await;
    let error = fetch(&client, "https://other.invalid", &fixture.token("a"))
        .await
        .expect_err("the certificate is for another name");
    assert_eq!(error.kind(), ErrorKind::TlsHandshake, "{error}");
}

#[tokio::test]
async fn of_several_places_that_fail_the_last_one_is_named() {
    let fixture = Fixture::new();
    let client = fixture
        .builder()
        .proxies(Proxies::none())
        .connect_to(
            origin("https://localhost:1"),
            [place("127.0.0.1:1"), place("127.0.0.2:1")],
        )
        .build()
        .unwrap();
    let error = fetch(&client, "https://localhost:1", &fixture.token("a"))
        .await
        .expect_err("nothing listens there");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.to_string().contains("127.0.0.2:1"), "{error}");
}

#[test]
fn places_that_cannot_be_used_are_configuration_errors() {
    let fixture = Fixture::new();
    let cases = [
        ("http://localhost:1", vec!["127.0.0.1:2"], "plaintext"),
        ("https://localhost:1", vec![], "no place"),
        ("https://localhost:1", vec!["user@127.0.0.1:2"], "no host"),
    ];
    for (from, places, expected) in cases {
        let error = bowline_http_client::Client::builder()
            .trust(Trust::from_pem(fixture.pki.ca_pem().as_bytes()).unwrap())
            .connect_to(origin(from), places.into_iter().map(place))
            .build()
            .expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

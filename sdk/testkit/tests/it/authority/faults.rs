//! Injected faults, and the request counters.

use std::time::Duration;

use bowline_testkit::authority::{InjectedFault, TokenRequest};
use bowline_testkit::pki::Pki;
use bowline_testkit::tls::{Alpn, TlsOptions};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};

use super::{AGENT, Ask, FORM, agent, client, post, start, verified};
use crate::client::{Http, soon};

fn request() -> Request<Full<Bytes>> {
    Request::post("https://localhost/token")
        .header("host", "localhost")
        .header("content-type", FORM)
        .body(Full::from(AGENT))
        .unwrap()
}

#[tokio::test]
async fn down_cuts_each_request_without_an_answer_and_counts_it() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    authority.set_fault(InjectedFault::Down);
    for (alpn, asked) in [(Alpn::Http1, 1), (Alpn::Http2, 2)] {
        let tls = TlsOptions::alpn(alpn).client(&pki, Some(&agent));
        let mut client = Http::connect(&tls, authority.mtls_addr()).await;
        assert!(soon(client.send(request())).await.is_err(), "{alpn:?}");
        assert_eq!(authority.token_requests(), asked);
    }
    authority.set_fault(InjectedFault::None);
    let mut client = client(&authority, &pki, Some(&agent)).await;
    assert_eq!(
        post(&mut client, FORM, AGENT).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn unavailable_says_when_to_come_again() {
    let pki = Pki::new();
    let authority = start(&pki);
    authority.set_fault(InjectedFault::Unavailable { retry_after: 7 });
    let mut client = client(&authority, &pki, None).await;
    let response = soon(client.send(request())).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "7");
}

#[tokio::test]
async fn garbage_is_no_json_and_endless_has_no_end() {
    let pki = Pki::new();
    let authority = start(&pki);
    let mut client = client(&authority, &pki, None).await;
    authority.set_fault(InjectedFault::Garbage);
    let response = soon(client.send(request())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_err());

    authority.set_fault(InjectedFault::Endless);
    let mut body = soon(client.send(request())).await.unwrap().into_body();
    let mut bytes = 0;
    while bytes < 4 << 20 {
        let frame = soon(body.frame()).await.expect("no end").unwrap();
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[tokio::test]
async fn held_requests_are_answered_by_the_next_fault() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    authority.set_fault(InjectedFault::Hold);
    let mut fair = client(&authority, &pki, Some(&agent)).await;
    let mut leaving = client(&authority, &pki, Some(&agent)).await;
    let asking = tokio::spawn(async move { fair.send(request()).await });
    let gives_up = tokio::spawn(async move { leaving.send(request()).await });
    soon(authority.held(2)).await;
    gives_up.abort();
    assert!(!asking.is_finished());
    authority.set_fault(InjectedFault::Unavailable { retry_after: 1 });
    let response = soon(asking).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(authority.token_requests(), 2);
}

#[tokio::test]
async fn who_has_been_answered_is_held_no_more() {
    let pki = Pki::new();
    let authority = start(&pki);
    authority.set_fault(InjectedFault::Hold);
    let mut client = client(&authority, &pki, None).await;
    let asking = tokio::spawn(async move { client.send(request()).await });
    soon(authority.held(1)).await;
    authority.set_fault(InjectedFault::None);
    soon(asking).await.unwrap().unwrap();
    authority.set_fault(InjectedFault::Hold);
    assert!(authority.held(1).now_or_never().is_none());
}

#[tokio::test]
async fn counters_count_what_arrives_at_either_port() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let bad = [(
        "grant_type",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    )];
    Ask::new(&pki, &authority).plain().refused(&bad).await;
    Ask::new(&pki, &authority).by(&agent).refused(&[]).await;
    Ask::new(&pki, &authority)
        .plain()
        .path("/introspect")
        .refused(&[])
        .await;
    let counted = (
        authority.token_requests(),
        authority.exchanges(),
        authority.introspections(),
    );
    assert_eq!(counted, (2, 1, 1));
}

#[tokio::test]
async fn a_lifetime_can_change_between_requests() {
    let pki = Pki::new();
    let authority = start(&pki);
    let agent = agent(&pki);
    let mut client = client(&authority, &pki, Some(&agent)).await;
    for seconds in [600, 2, 30] {
        authority.set_lifetime(Duration::from_secs(seconds));
        assert_eq!(
            post(&mut client, FORM, AGENT).await.body()["expires_in"],
            seconds
        );
        let claims =
            verified(&authority, &authority.issue(&TokenRequest::bearer("agent"))).unwrap();
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            seconds
        );
    }
}

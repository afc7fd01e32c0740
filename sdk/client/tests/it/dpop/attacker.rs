//! An attacker with a captured request.

use std::sync::{Arc, Mutex};

use bowline_http_client::bind::{
    Answered, Attachment, Bind, BindConnection, Bound, Learned, RequestFacts,
};
use bowline_http_client::{BindingUsed, Client, CloseReason, ConnectionFacts, Error};
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http_body_util::Full;

use crate::fixture::dpop::{DpopFixture, class, with_replay_store, without_certificates};

#[tokio::test]
async fn a_captured_request_is_refused_on_another_connection_and_for_another_request() {
    let fixture = DpopFixture::new();
    let server = fixture.server(without_certificates(Alpn::Http2), with_replay_store());
    let (client, token) = (fixture.client(), fixture.token("a"));
    class(&client, &format!("{}/things", server.origin()), &token).await;
    let captured = fixture.arrivals.all().remove(0);
    let field = |name| captured[name].to_str().unwrap().to_owned();

    let credentials = CapturedCredentials(Arc::new(Mutex::new((
        field("authorization"),
        field("dpop"),
    ))));
    let attacker = Client::builder()
        .trust(fixture.base.trust())
        .bind(Arc::new(credentials.clone()) as Arc<dyn Bind>)
        .build()
        .unwrap();
    let check = async |method: &str, path: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", server.origin()));
        let response = attacker
            .send(request.body(Full::<Bytes>::default()).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), 401);
        response.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    for (method, path, id) in [
        ("GET", "/things", "DP-14: "),
        ("DELETE", "/things", "DP-8: "),
        ("GET", "/others", "DP-9: "),
    ] {
        let challenge = check(method, path).await;
        assert!(challenge.contains(id), "{challenge}");
    }
    // As a bearer token, as an attacker would send a token from a log.
    credentials.0.lock().unwrap().0 = format!("Bearer {}", token.secret());
    assert!(check("GET", "/things").await.contains("DP-16: "));
}

/// Sends captured credentials with every request.
#[derive(Clone)]
struct CapturedCredentials(Arc<Mutex<(String, String)>>);

impl Bind for CapturedCredentials {
    fn open(&self, _: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        Arc::new(self.clone())
    }
}

impl BindConnection for CapturedCredentials {
    fn bind(&self, _: &RequestFacts<'_>) -> Result<Bound, Error> {
        let (authorization, proof) = self.0.lock().unwrap().clone();
        let value = proof.parse().unwrap();
        let mut attachment = Attachment::new(DPOP_HEADER, value, BindingUsed::Dpop);
        attachment.authorization = Some(authorization.parse().unwrap());
        attachment.request_bound = true;
        Ok(Bound::Attached(attachment))
    }

    fn learn(&self, _: &Answered<'_>) -> Learned {
        Learned::Nothing
    }

    fn closed(&self, _: CloseReason) {}
}

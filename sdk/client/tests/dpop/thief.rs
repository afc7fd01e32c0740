//! What somebody can do with a request that he has caught.

use std::sync::{Arc, Mutex};

use bowline_client::bind::{
    Answer, Attachment, Bind, BindConnection, Bound, Learned, Memo, RequestFacts,
};
use bowline_client::{BindingUsed, Client, CloseReason, ConnectionFacts, Error};
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::tls::Alpn;
use bytes::Bytes;
use http_body_util::Full;

use crate::scene::{Scene, class, remembering, without_certificates};

#[tokio::test]
async fn a_caught_request_is_of_no_use_on_another_connection_or_for_another_request() {
    let scene = Scene::new();
    let server = scene.server(without_certificates(Alpn::Http2), remembering());
    let (client, token) = (scene.client(), scene.token("a"));
    class(&client, &format!("{}/things", server.origin()), &token).await;
    let caught = scene.arrivals.all().remove(0);
    let field = |name| caught[name].to_str().unwrap().to_owned();

    let thief = Thief(Arc::new(Mutex::new((
        field("authorization"),
        field("dpop"),
    ))));
    let robber = Client::builder()
        .trust(scene.lab.trust())
        .bind(Arc::new(thief.clone()) as Arc<dyn Bind>)
        .build()
        .unwrap();
    let check = async |method: &str, path: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", server.origin()));
        let response = robber
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
    // Bearer, as one would send a token found in a log.
    thief.0.lock().unwrap().0 = format!("Bearer {}", token.secret());
    assert!(check("GET", "/things").await.contains("DP-16: "));
}

/// Sends what somebody else has caught.
#[derive(Clone)]
struct Thief(Arc<Mutex<(String, String)>>);

impl Bind for Thief {
    fn open(&self, _: &Arc<ConnectionFacts>) -> Arc<dyn BindConnection> {
        Arc::new(self.clone())
    }
}

impl BindConnection for Thief {
    fn bind(&self, _: &RequestFacts<'_>) -> Result<Bound, Error> {
        let (authorization, proof) = self.0.lock().unwrap().clone();
        Ok(Bound::Attached(Attachment {
            name: DPOP_HEADER,
            value: proof.parse().unwrap(),
            authorization: Some(authorization.parse().unwrap()),
            used: BindingUsed::Dpop,
            request_bound: true,
            memo: Arc::new(Nothing),
        }))
    }

    fn learn(&self, _: &RequestFacts<'_>, _: Option<&Attachment>, _: &Answer<'_>) -> Learned {
        Learned::Nothing
    }

    fn closed(&self, _: CloseReason) {}
}

struct Nothing;

impl Memo for Nothing {
    fn writing(&self) {}

    fn unsent(&self) {}
}

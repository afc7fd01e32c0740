//! T5: a token of one hop replayed at another hop, by the receiver of the first or by a third
//! party.

use bowline_http_client::Body;
use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER, ProofClaims, ProofKey};
use bowline_testkit::pki::{Leaf, Pki};
use bowline_testkit::tls::TlsOptions;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use super::{B, C, Fixture, Service, call, challenge, text};
use crate::client::{self, Http, get};

/// The control for the tests below: the same call passes with a token that B has requested.
#[tokio::test]
async fn a_chain_of_two_hops_passes_with_an_exchange_at_the_first() {
    let fixture = Fixture::new();
    let c = fixture.c();
    let b = fixture.b(&c);
    let response = fixture.call_as_a(&b).await;
    assert_eq!(response.status(), StatusCode::OK);
    let claims: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        (&claims["sub"], &claims["act"]["sub"]),
        (&"a".into(), &"b".into())
    );
    assert_eq!(
        claims["cnf"]["x5t#S256"],
        fixture.b.thumbprint().to_string(),
        "TK-4"
    );
    assert_eq!(claims["aud"], C);
    assert_eq!(fixture.authority.exchanges(), 1);
}

#[tokio::test]
async fn t5_a_token_for_b_is_refused_at_c_from_every_presenter() {
    let fixture = Fixture::new();
    let c = fixture.c();
    let b = fixture.b(&c);
    fixture.call_as_a(&b).await;
    let captured = b.captured();
    for presenter in [&fixture.b, &fixture.attacker] {
        fixture
            .attacks_are_refused(presenter, &captured, &c, "RS-2")
            .await;
    }
}

/// RS-2 alone: the token is bound to A and its proof is valid, so all other checks pass.
#[tokio::test]
async fn t5_the_audience_alone_refuses() {
    let fixture = Fixture::new();
    let c = fixture.c();
    let a = fixture.client(&fixture.a);
    let response = call(&a, &c.server.origin(), &fixture.token_for(&[B])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(c.refused_by(), Some("RS-2"));
    let challenge = challenge(&response.headers()[WWW_AUTHENTICATE]).to_owned();
    assert!(
        challenge.contains("RS-2: the access token is for another audience"),
        "{challenge}"
    );
    assert_eq!(a.stats().totals.signatures(), 1, "it came with a proof");

    let response = call(&a, &c.server.origin(), &fixture.token_for(&[C])).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// RS-3 alone: the token is addressed to both services, so its audience does not protect it.
#[tokio::test]
async fn t5_the_certificate_alone_refuses() {
    let fixture = Fixture::new();
    let c = fixture.c();
    let b = fixture.b(&c);
    let a = fixture.client(&fixture.a);
    let token = fixture.token_for(&[B, C]);
    call(&a, &b.server.origin(), &token).await;
    let captured = b.captured();
    for presenter in [&fixture.b, &fixture.attacker] {
        fixture
            .attacks_are_refused(presenter, &captured, &c, "RS-3")
            .await;
    }
    // The token is valid at C: A itself may use it there.
    assert_eq!(
        call(&a, &c.server.origin(), &token).await.status(),
        StatusCode::OK
    );
}

/// AS-3: a token stolen on the way to B does not reach B's exchange.
#[tokio::test]
async fn t5_a_token_stolen_from_the_first_hop_is_not_exchanged() {
    let fixture = Fixture::new();
    let c = fixture.c();
    let b = fixture.b(&c);
    fixture.call_as_a(&b).await;
    let captured = b.captured();
    let attacker = &fixture.attacker;
    fixture
        .attacks_are_refused(attacker, &captured, &b, "RS-3")
        .await;
    assert_eq!(fixture.authority.exchanges(), 1, "A's, and no other");
}

impl Fixture {
    /// A calls B with a token for it.
    async fn call_as_a(&self, b: &Service) -> http::Response<Body> {
        let token = self.token_for(&[B]);
        call(&self.client(&self.a), &b.server.origin(), &token).await
    }

    /// `check` refuses the captured token from this presenter, whatever proof comes with it.
    async fn attacks_are_refused(
        &self,
        presenter: &Leaf,
        captured: &HeaderMap,
        at: &Service,
        check: &str,
    ) {
        for attack in Attack::ALL {
            let status = attack.present(&self.pki, presenter, captured, at).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert_eq!(
                at.refused_by(),
                Some(check),
                "{presenter:?} with {attack:?}"
            );
        }
    }
}

/// The proof that an attacker sends with a captured token.
#[derive(Clone, Copy, Debug)]
enum Attack {
    TokenAlone,
    /// The proof that was captured with it.
    CapturedProof,
    /// A valid proof for this connection, signed with the presenter's key.
    OwnProof,
}

impl Attack {
    const ALL: [Self; 3] = [Self::TokenAlone, Self::CapturedProof, Self::OwnProof];

    /// Presents the token with the presenter's own certificate.
    async fn present(
        self,
        pki: &Pki,
        presenter: &Leaf,
        captured: &HeaderMap,
        at: &Service,
    ) -> StatusCode {
        let tls = TlsOptions::default().client(pki, Some(presenter));
        let stream = client::connect(&tls, at.server.addr()).await.unwrap();
        let proof = match self {
            Self::TokenAlone => None,
            Self::CapturedProof => Some(captured[PROOF_HEADER].clone()),
            Self::OwnProof => Some(own_proof(
                presenter,
                &captured[AUTHORIZATION],
                &ExporterValue::derive(stream.get_ref().1).unwrap(),
            )),
        };
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, captured[AUTHORIZATION].clone());
        if let Some(proof) = proof {
            headers.insert(PROOF_HEADER, proof);
        }
        Http::over(stream)
            .await
            .send(request)
            .await
            .unwrap()
            .status()
    }
}

fn own_proof(
    presenter: &Leaf,
    authorization: &HeaderValue,
    exporter: &ExporterValue,
) -> HeaderValue {
    let key = ProofKey::new(presenter.certificate(), presenter.signing_key()).unwrap();
    let token = AccessToken::from_authorization(authorization).unwrap();
    let claims = ProofClaims {
        token: token.hash(),
        exporter,
        issued_at: UnixTime::now(),
        request: None,
    };
    key.mint(&claims).unwrap().header_value().clone()
}

//! T5: a token of one hop replayed at another hop, by the receiver of the first or by a third
//! party.

use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER, ProofClaims, ProofKey};
use bowline_testkit::pki::{Leaf, Pki};
use bowline_testkit::tls::TlsOptions;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use super::{B, C, Scene, Service, call, challenge, text};
use crate::client::{self, Http, get};

/// The control of all that follows: the same call passes with a token that B has asked for.
#[tokio::test]
async fn a_chain_of_two_hops_passes_with_an_exchange_at_the_first() {
    let scene = Scene::new();
    let c = scene.c();
    let b = scene.b(&c);
    let response = call(
        &scene.client(&scene.a),
        &b.server.origin(),
        &scene.token_for(&[B]),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    let told: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        (&told["sub"], &told["act"]["sub"]),
        (&"a".into(), &"b".into())
    );
    assert_eq!(
        told["cnf"]["x5t#S256"],
        scene.b.thumbprint().to_string(),
        "TK-4"
    );
    assert_eq!(told["aud"], C);
    assert_eq!(scene.authority.exchanges(), 1);
}

#[tokio::test]
async fn t5_a_token_for_b_is_of_no_use_at_c_whoever_presents_it() {
    let scene = Scene::new();
    let c = scene.c();
    let b = scene.b(&c);
    call(
        &scene.client(&scene.a),
        &b.server.origin(),
        &scene.token_for(&[B]),
    )
    .await;
    let caught = b.caught();
    for presenter in [&scene.b, &scene.thief] {
        for loot in Loot::ALL {
            assert_eq!(
                loot.present(&scene.pki, presenter, &caught, &c).await,
                StatusCode::UNAUTHORIZED
            );
            assert_eq!(c.refused_by(), Some("RS-2"), "{presenter:?} with {loot:?}");
        }
    }
}

/// RS-2 by itself: A is whom the token is bound to, and its proof is good, so that all other checks
/// pass.
#[tokio::test]
async fn t5_the_audience_alone_refuses() {
    let scene = Scene::new();
    let c = scene.c();
    let a = scene.client(&scene.a);
    let response = call(&a, &c.server.origin(), &scene.token_for(&[B])).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(c.refused_by(), Some("RS-2"));
    let complaint = challenge(&response.headers()[WWW_AUTHENTICATE]).to_owned();
    assert!(
        complaint.contains("RS-2: the access token is for another audience"),
        "{complaint}"
    );
    assert_eq!(a.stats().totals.signatures(), 1, "it came with a proof");

    let response = call(&a, &c.server.origin(), &scene.token_for(&[C])).await;
    assert_eq!(response.status(), StatusCode::OK);
}

/// RS-3 by itself: the token is addressed to both services, so that its audience protects from
/// nothing.
#[tokio::test]
async fn t5_the_certificate_alone_refuses() {
    let scene = Scene::new();
    let c = scene.c();
    let b = scene.b(&c);
    let a = scene.client(&scene.a);
    let token = scene.token_for(&[B, C]);
    call(&a, &b.server.origin(), &token).await;
    let caught = b.caught();
    for presenter in [&scene.b, &scene.thief] {
        for loot in Loot::ALL {
            assert_eq!(
                loot.present(&scene.pki, presenter, &caught, &c).await,
                StatusCode::UNAUTHORIZED
            );
            assert_eq!(c.refused_by(), Some("RS-3"), "{presenter:?} with {loot:?}");
        }
    }
    // It is a good token at C: A itself may use it there.
    assert_eq!(
        call(&a, &c.server.origin(), &token).await.status(),
        StatusCode::OK
    );
}

/// AS-3: what is stolen on the way to B does not get as far as B's exchange.
#[tokio::test]
async fn t5_a_token_stolen_from_the_first_hop_makes_nobody_exchange_it() {
    let scene = Scene::new();
    let c = scene.c();
    let b = scene.b(&c);
    call(
        &scene.client(&scene.a),
        &b.server.origin(),
        &scene.token_for(&[B]),
    )
    .await;
    let caught = b.caught();
    for loot in Loot::ALL {
        assert_eq!(
            loot.present(&scene.pki, &scene.thief, &caught, &b).await,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(b.refused_by(), Some("RS-3"), "{loot:?}");
    }
    assert_eq!(scene.authority.exchanges(), 1, "A's, and no other");
}

/// What comes with a caught token.
#[derive(Clone, Copy, Debug)]
enum Loot {
    Nothing,
    /// The proof that was caught with it.
    CaughtProof,
    /// A good proof for this connection, signed with the presenter's key.
    OwnProof,
}

impl Loot {
    const ALL: [Self; 3] = [Self::Nothing, Self::CaughtProof, Self::OwnProof];

    /// Presents the token with the presenter's own certificate.
    async fn present(
        self,
        pki: &Pki,
        presenter: &Leaf,
        caught: &HeaderMap,
        at: &Service,
    ) -> StatusCode {
        let tls = TlsOptions::default().client(pki, Some(presenter));
        let stream = client::connect(&tls, at.server.addr()).await.unwrap();
        let proof = match self {
            Self::Nothing => None,
            Self::CaughtProof => Some(caught[PROOF_HEADER].clone()),
            Self::OwnProof => Some(own_proof(
                presenter,
                &caught[AUTHORIZATION],
                &ExporterValue::derive(stream.get_ref().1).unwrap(),
            )),
        };
        let mut request = get("/");
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, caught[AUTHORIZATION].clone());
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

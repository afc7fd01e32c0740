//! One proof for each request, whatever becomes of connections and keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_client::{Cause, DpopKey, ErrorKind, ProofKind, Step, Timeouts};
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::peers::{Cycle, CyclingOptions};
use bowline_testkit::tls::Alpn;
use futures_util::future::join_all;

use crate::scene::{Scene, class, remembering, without_certificates};
use crate::support::gate::{Door, Gate, soon};
use crate::support::{fetch, jwt};

#[tokio::test]
async fn each_request_has_a_proof_of_its_own_and_needs_no_client_certificate() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let scene = Scene::new();
        let server = scene.server(without_certificates(alpn), remembering());
        let (client, token) = (scene.client(), scene.token("a"));
        let url = format!("{}/some/path?query=1", server.origin());
        for _ in 0..5 {
            assert_eq!(class(&client, &url, &token).await, "dpop:");
        }
        let so_far = client.stats().totals.causes;
        assert_eq!(
            so_far,
            [(Cause::First, 1), (Cause::Scope, 4)].into(),
            "one connection"
        );
        join_all((0..20).map(|_| class(&client, &url, &token))).await;

        let arrivals = scene.arrivals.all();
        assert_eq!(arrivals.len(), 25);
        for headers in &arrivals {
            assert_eq!(headers["authorization"], format!("DPoP {}", token.secret()));
            assert_eq!(headers.get_all(DPOP_HEADER).iter().count(), 1);
            assert!(!headers.contains_key(PROOF_HEADER));
        }
        assert_eq!(
            scene.arrivals.proofs().iter().collect::<HashSet<_>>().len(),
            25
        );
        for claims in scene.arrivals.claims() {
            assert_eq!(claims["htu"], format!("{}/some/path", server.origin()));
            assert_eq!(claims["htm"], "GET");
            assert_eq!(
                claims["ath"],
                URL_SAFE_NO_PAD.encode(token.hash().as_bytes())
            );
            assert_eq!(claims.get("nonce"), None);
        }
        let totals = client.stats().totals;
        assert_eq!(totals.minted, [(ProofKind::Dpop, 25)].into());
        assert!(totals.causes[&Cause::First] <= client.stats().connections_opened);
        assert_eq!(
            totals.causes[&Cause::First] + totals.causes[&Cause::Scope],
            25
        );
        assert_eq!((totals.with_proof, totals.request_bound), (25, 25));
        assert_eq!((totals.reused, totals.refused, totals.abandoned), (0, 0, 0));
        assert_eq!(
            totals.reproof_ratio(),
            0.0,
            "no proof is the network's fault"
        );
    }
}

#[tokio::test]
async fn connections_that_are_cut_under_load_make_no_proof_arrive_twice() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let scene = Scene::new();
        let cycle = Cycle {
            max_responses: Some(7),
            ..Cycle::default()
        };
        let options = CyclingOptions {
            cycle,
            ..without_certificates(alpn)
        };
        let server = scene.server(options, remembering());
        let (client, url) = (scene.client(), server.origin());
        let tokens: Vec<_> = (0..4).map(|n| scene.token(&n.to_string())).collect();
        for round in 0..20 {
            let calls = join_all((0..16).map(|n| fetch(&client, &url, &tokens[n % 4])));
            let cut = async {
                if round % 2 == 0 {
                    server.cut_all();
                }
            };
            for result in futures_util::future::join(calls, cut).await.0 {
                match result {
                    // 401 would be a replay.
                    Ok(response) => assert_eq!(response.status(), 200),
                    Err(e) => assert!(
                        matches!(
                            e.kind(),
                            ErrorKind::MayHaveBeenProcessed
                                | ErrorKind::ConnectionLost
                                | ErrorKind::TlsHandshake
                        ),
                        "{e:?}"
                    ),
                }
            }
        }
        let proofs = scene.arrivals.proofs();
        assert!(proofs.len() >= 200, "{}", proofs.len());
        assert_eq!(proofs.iter().collect::<HashSet<_>>().len(), proofs.len());
        let totals = client.stats().totals;
        assert_eq!(
            (totals.requests, totals.refused, totals.reused),
            (320, 0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_key_holds_up_its_own_requests_only_and_not_for_ever() {
    let mut scene = Scene::new();
    let door = Arc::new(Door::default());
    let gate = Gate::new(scene.lab.agent.signing_key(), door.clone());
    scene.key = DpopKey::new(Arc::new(gate)).unwrap();
    let timeouts = Timeouts {
        sign: Duration::from_millis(50),
        ..Timeouts::default()
    };
    let client = scene.builder().timeouts(timeouts).build().unwrap();
    let server = scene.server(without_certificates(Alpn::Http2), remembering());
    let (token, url) = (scene.token("a"), server.origin());
    class(&client, &url, &token).await;

    door.close(true);
    let waiting = {
        let (client, url, token) = (client.clone(), url.clone(), token.clone());
        tokio::spawn(async move { fetch(&client, &url, &token).await })
    };
    for _ in 0..20 {
        assert_eq!(class(&client, &url, &jwt("plain", None)).await, "bearer:");
    }
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Sign), "{error}");
    door.close(false);
    // The signature that came too late was for nothing: a DPoP proof is nobody else's.
    soon(async {
        while client.stats().totals.abandoned < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    class(&client, &url, &token).await;
    let totals = client.stats().totals;
    assert_eq!((totals.signatures(), totals.abandoned), (3, 1));
}

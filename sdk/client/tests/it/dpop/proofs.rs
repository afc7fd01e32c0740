//! One proof for each request, also when connections end and keys are slow.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_http_client::{Cause, DpopKey, ErrorKind, ProofKind, Step, Timeouts};
use bowline_proof::PROOF_HEADER;
use bowline_proof::dpop::DPOP_HEADER;
use bowline_testkit::peers::{Cycle, CyclingOptions};
use bowline_testkit::tls::Alpn;
use futures_util::future::join_all;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use crate::fixture::dpop::{DpopFixture, class, with_replay_store, without_certificates};
use crate::fixture::slow_key::{Gate, GatedKey, soon};
use crate::fixture::{calls_while, fetch, jwt};

#[tokio::test]
async fn each_request_has_its_own_proof_and_needs_no_client_certificate() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = DpopFixture::new();
        let server = fixture.server(without_certificates(alpn), with_replay_store());
        let (client, token) = (fixture.client(), fixture.token("a"));
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

        let arrivals = fixture.arrivals.all();
        assert_eq!(arrivals.len(), 25);
        for headers in &arrivals {
            assert_eq!(headers["authorization"], format!("DPoP {}", token.secret()));
            assert_eq!(headers.get_all(DPOP_HEADER).iter().count(), 1);
            assert!(!headers.contains_key(PROOF_HEADER));
        }
        assert_eq!(
            fixture
                .arrivals
                .proofs()
                .iter()
                .collect::<HashSet<_>>()
                .len(),
            25
        );
        for claims in fixture.arrivals.claims() {
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
        // The token is new to the origin once, however many connections there are.
        assert_eq!(totals.causes[&Cause::First], 1);
        assert_eq!(
            totals.causes[&Cause::First] + totals.causes[&Cause::Scope],
            25
        );
        assert_eq!((totals.with_proof, totals.request_bound), (25, 25));
        assert_eq!((totals.reused, totals.refused, totals.abandoned), (0, 0, 0));
        assert_eq!(totals.reproof_ratio(), 0.0, "the network caused no proof");
    }
}

#[tokio::test]
async fn connections_that_are_cut_under_load_make_no_proof_arrive_twice() {
    for alpn in [Alpn::Http1, Alpn::Http2] {
        let fixture = DpopFixture::new();
        let cycle = Cycle::max_responses(7);
        let options = CyclingOptions {
            cycle,
            ..without_certificates(alpn)
        };
        let server = fixture.server(options, with_replay_store());
        let (client, url) = (fixture.client(), server.origin());
        let tokens: Vec<_> = (0..4).map(|n| fixture.token(&n.to_string())).collect();
        for round in 0..20 {
            let cut = || {
                if round % 2 == 0 {
                    server.cut_all();
                }
            };
            // A status of 401 would be a replay.
            calls_while(cut, &client, &url, &tokens).await;
        }
        let proofs = fixture.arrivals.proofs();
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
async fn a_slow_key_delays_only_its_own_requests_and_only_until_the_time_out() {
    let mut fixture = DpopFixture::new();
    let gate = Arc::new(Gate::default());
    let key = GatedKey::new(fixture.base.agent.signing_key(), gate.clone());
    fixture.key = DpopKey::new(Arc::new(key)).unwrap();
    let mut timeouts = Timeouts::default();
    // Long enough for a key that signs at once, on a machine that is busy.
    timeouts.sign = Duration::from_secs(2);
    let client = fixture.builder().timeouts(timeouts).build().unwrap();
    let server = fixture.server(without_certificates(Alpn::Http2), with_replay_store());
    let (token, url) = (fixture.token("a"), server.origin());
    class(&client, &url, &token).await;

    gate.close();
    let waiting = {
        let (client, url, token) = (client.clone(), url.clone(), token.clone());
        tokio::spawn(async move { fetch(&client, &url, &token).await })
    };
    for _ in 0..20 {
        assert_eq!(class(&client, &url, &jwt("plain", None)).await, "bearer:");
    }
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Step::Sign), "{error}");
    gate.open();
    // The late signature is abandoned: no other request can use a DPoP proof.
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

/// Notes which threads it signs on.
#[derive(Debug)]
struct Located {
    key: Arc<dyn SigningKey>,
    signed_on: Arc<Mutex<HashSet<ThreadId>>>,
}

impl SigningKey for Located {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.signed_on
            .lock()
            .unwrap()
            .insert(thread::current().id());
        self.key.choose_scheme(offered)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

#[tokio::test]
async fn only_a_key_that_is_said_to_be_fast_signs_on_the_requests_own_thread() {
    for is_fast in [false, true] {
        let mut fixture = DpopFixture::new();
        let signed_on = Arc::<Mutex<HashSet<ThreadId>>>::default();
        let key = DpopKey::new(Arc::new(Located {
            key: fixture.base.agent.signing_key(),
            signed_on: signed_on.clone(),
        }));
        fixture.key = key.unwrap().with_fast(is_fast);
        let server = fixture.server(without_certificates(Alpn::Http1), with_replay_store());
        let (client, token) = (fixture.client(), fixture.token("a"));
        signed_on.lock().unwrap().clear();
        for _ in 0..3 {
            assert_eq!(class(&client, &server.origin(), &token).await, "dpop:");
        }
        let signed_on = signed_on.lock().unwrap();
        let own = thread::current().id();
        assert_eq!(signed_on.contains(&own), is_fast);
        assert!(!is_fast || signed_on.len() == 1);
        assert_eq!(client.stats().totals.signatures(), 3);
    }
}

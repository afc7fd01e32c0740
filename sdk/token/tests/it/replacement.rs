//! CL-8: the certificate is replaced while tokens that are bound to it are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowline_http_client::{Cause, Thumbprint};
use bowline_testkit::authority::{AuthorityOptions, InjectedFault, TokenFormat};
use bowline_testkit::pki::KeyKind;
use bowline_token::{Authorized, RequiredBinding, TokenSource, replace_identity};
use futures_util::future::join_all;

use crate::fixture::{Fixture, bound_to, call, get_request, identity, ok, successor, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_and_no_call_fails() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let source = fixture
        .source(&client)
        .bound(RequiredBinding::Session)
        .resource(resource.origin())
        .build()
        .unwrap();
    let agent = Authorized::new(client.clone(), source.clone(), &resource.origin()).unwrap();
    let old_token = source.token().await.unwrap();
    assert_eq!(bound_to(&old_token), fixture.agent.thumbprint());

    let done = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (agent, done, calls, url) = (
                agent.clone(),
                done.clone(),
                calls.clone(),
                resource.origin(),
            );
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    ok(agent.send(get_request(&url)).await.unwrap()).await;
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let next = fixture.pki.client("agent", KeyKind::P384);
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    replace_identity(&client, &sources, identity(&next))
        .await
        .unwrap();
    // From now on new tokens use the new certificate, and old tokens the old one.
    let new_token = source.token().await.unwrap();
    assert_eq!(bound_to(&new_token), next.thumbprint());
    let seen = calls.load(Ordering::SeqCst);
    while calls.load(Ordering::SeqCst) < seen + 100 {
        tokio::task::yield_now().await;
    }
    ok(call(&client, &resource.origin(), &old_token).await).await;
    done.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(
        fixture.authority.token_requests(),
        2,
        "one for each certificate"
    );
    let totals = client.stats().totals;
    assert_eq!(
        (
            totals.failed,
            totals.may_have_been_processed,
            totals.refused
        ),
        (0, 0, 0)
    );
    // One for each token: its certificate has one connection.
    assert_eq!(
        totals.causes,
        [(Cause::First, 1), (Cause::Identity, 1)].into()
    );
}

/// Neither server nor client can read from an opaque token which certificate it is bound to: the
/// source remembers.
#[tokio::test]
async fn an_opaque_token_is_still_sent_with_the_certificate_that_it_was_issued_to() {
    let fixture = Fixture::with(AuthorityOptions {
        format: TokenFormat::Opaque,
        ..AuthorityOptions::default()
    });
    let server = fixture.certificate_echo();
    let client = fixture.client();
    let source = fixture.source(&client).build().unwrap();
    let seen_with = async |token| -> Thumbprint {
        let seen = text(call(&client, &server.origin(), token).await).await;
        seen.parse().expect("a thumbprint")
    };
    let old_token = source.token().await.unwrap();
    let next = fixture.pki.client("agent", KeyKind::P256);
    replace_identity(&client, &[Arc::new(source.clone()) as _], identity(&next))
        .await
        .unwrap();
    let new_token = source.token().await.unwrap();
    assert_ne!(old_token, new_token);
    for _ in 0..2 {
        assert_eq!(seen_with(&old_token).await, fixture.agent.thumbprint());
        assert_eq!(seen_with(&new_token).await, next.thumbprint());
    }
}

#[tokio::test]
async fn the_certificate_stays_if_no_token_can_be_obtained_for_the_next_one() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let source = fixture.source(&client).build().unwrap();
    let token = source.token().await.unwrap();
    let next = Arc::new(identity(&fixture.pki.client("agent", KeyKind::P256)));
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    fixture.authority.set_fault(InjectedFault::Down);
    replace_identity(&client, &sources, next.clone())
        .await
        .unwrap_err();
    assert_eq!(
        client.identity().unwrap().thumbprint(),
        fixture.agent.thumbprint()
    );
    assert_eq!(source.token().await.unwrap(), token);

    fixture.authority.set_fault(InjectedFault::None);
    fixture.clock.advance(1);
    replace_identity(&client, &sources, next.clone())
        .await
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), next.thumbprint());
}

/// The certificate was replaced without `replace_identity`.
#[tokio::test]
async fn the_old_token_is_used_until_there_is_one_for_a_certificate_that_was_replaced_unprepared() {
    let fixture = Fixture::new();
    let resource = fixture.resource();
    let client = fixture.client();
    let source = fixture.source_for(&client, resource.origin());
    let old_token = source.token().await.unwrap();
    let next = fixture.pki.client("agent", KeyKind::P256);
    client.replace_identity(identity(&next)).unwrap();

    fixture.authority.set_fault(InjectedFault::Hold);
    let tokens = join_all((0..100).map(|_| source.token())).await;
    assert!(
        tokens.into_iter().all(|token| token.unwrap() == old_token),
        "no caller waits"
    );
    fixture.authority.held(1).await;
    ok(call(&client, &resource.origin(), &old_token).await).await;
    fixture.authority.set_fault(InjectedFault::None);
    let new_token = successor(&source, &old_token).await;
    assert_eq!(bound_to(&new_token), next.thumbprint());
    assert_eq!(fixture.authority.token_requests(), 2);
}

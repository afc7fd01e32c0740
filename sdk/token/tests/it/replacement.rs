//! CL-8: the certificate is replaced while tokens that are bound to it are in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bowline_client::{Cause, Thumbprint};
use bowline_testkit::authority::{AuthorityOptions, InjectedFault, TokenFormat};
use bowline_testkit::pki::KeyKind;
use bowline_token::{Authorized, RequiredBinding, TokenSource, replace_identity};
use futures_util::future::join_all;

use crate::lab::{Lab, bound_to, call, get_request, identity, ok, successor, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_and_no_call_fails() {
    let lab = Lab::new();
    let resource = lab.resource();
    let client = lab.client();
    let source = lab
        .source(&client)
        .bound(RequiredBinding::Session)
        .resource(resource.origin())
        .build()
        .unwrap();
    let agent = Authorized::new(client.clone(), source.clone(), &resource.origin()).unwrap();
    let old_token = source.token().await.unwrap();
    assert_eq!(bound_to(&old_token), lab.agent.thumbprint());

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
    let next = lab.pki.client("agent", KeyKind::P384);
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    replace_identity(&client, &sources, identity(&next))
        .await
        .unwrap();
    // From the switch on, new tokens on the new certificate; the old ones go on with the old
    // certificate.
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
        lab.authority.token_requests(),
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

/// The server cannot tell an opaque token's certificate from the token, and neither can the client:
/// the source does.
#[tokio::test]
async fn an_opaque_token_goes_on_with_the_certificate_that_it_was_issued_to() {
    let lab = Lab::with(AuthorityOptions {
        format: TokenFormat::Opaque,
        ..AuthorityOptions::default()
    });
    let mirror = lab.mirror();
    let client = lab.client();
    let source = lab.source(&client).build().unwrap();
    let seen_with = async |token| -> Thumbprint {
        let seen = text(call(&client, &mirror.origin(), token).await).await;
        seen.parse().expect("a thumbprint")
    };
    let old_token = source.token().await.unwrap();
    let next = lab.pki.client("agent", KeyKind::P256);
    replace_identity(&client, &[Arc::new(source.clone()) as _], identity(&next))
        .await
        .unwrap();
    let new_token = source.token().await.unwrap();
    assert_ne!(old_token, new_token);
    for _ in 0..2 {
        assert_eq!(seen_with(&old_token).await, lab.agent.thumbprint());
        assert_eq!(seen_with(&new_token).await, next.thumbprint());
    }
}

#[tokio::test]
async fn nothing_is_switched_if_no_token_can_be_had_for_the_next_certificate() {
    let lab = Lab::new();
    let client = lab.client();
    let source = lab.source(&client).build().unwrap();
    let token = source.token().await.unwrap();
    let next = Arc::new(identity(&lab.pki.client("agent", KeyKind::P256)));
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    lab.authority.set_fault(InjectedFault::Down);
    replace_identity(&client, &sources, next.clone())
        .await
        .unwrap_err();
    assert_eq!(
        client.identity().unwrap().thumbprint(),
        lab.agent.thumbprint()
    );
    assert_eq!(source.token().await.unwrap(), token);

    lab.authority.set_fault(InjectedFault::None);
    lab.hands.advance(1);
    replace_identity(&client, &sources, next.clone())
        .await
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), next.thumbprint());
}

/// Somebody replaced the certificate and told nobody.
#[tokio::test]
async fn the_old_token_serves_until_there_is_one_for_a_certificate_that_came_unprepared() {
    let lab = Lab::new();
    let resource = lab.resource();
    let client = lab.client();
    let source = lab
        .source(&client)
        .resource(resource.origin())
        .build()
        .unwrap();
    let old_token = source.token().await.unwrap();
    let next = lab.pki.client("agent", KeyKind::P256);
    client.replace_identity(identity(&next)).unwrap();

    lab.authority.set_fault(InjectedFault::Hold);
    let tokens = join_all((0..100).map(|_| source.token())).await;
    assert!(
        tokens.into_iter().all(|token| token.unwrap() == old_token),
        "nobody waits"
    );
    lab.authority.held(1).await;
    ok(call(&client, &resource.origin(), &old_token).await).await;
    lab.authority.set_fault(InjectedFault::None);
    let new_token = successor(&source, &old_token).await;
    assert_eq!(bound_to(&new_token), next.thumbprint());
    assert_eq!(lab.authority.token_requests(), 2);
}

//! Several sources with one seed, and resources that refuse what they are sent.

use std::time::Duration;

use bowline_token::TokenSource;

use super::World;
use crate::fixture::successor;

#[tokio::test]
async fn a_source_takes_the_token_that_another_has_requested_for_the_same() {
    let world = World::new("same", Duration::from_secs(60));
    let [first, second] = [world.source(), world.source()];
    for refreshes in 1..=5 {
        let token = first.token().await.unwrap();
        assert_eq!(second.token().await.unwrap(), token);
        assert_eq!(token.certificate(), Some(world.fixture.agent.thumbprint()));
        assert_eq!(world.fixture.authority.refreshes(), refreshes);
        world.fixture.clock.advance(60);
    }
    world.is_sound();
}

/// A token for one resource never serves another, though both are requested with one seed.
#[tokio::test]
async fn a_source_takes_no_token_that_was_requested_for_something_else() {
    let world = World::new("else", Duration::from_secs(600));
    let other = world
        .fixture
        .pki
        .client("agent", bowline_testkit::pki::KeyKind::P256);
    let other = world.fixture.client_of(&other);
    let sources = [
        world.settings(),
        world.settings().resource("https://a.example"),
        world.settings().resource("https://b.example"),
        world.settings().audience("c"),
        world.settings().scope("read"),
        world
            .settings()
            .bound(bowline_token::RequiredBinding::Session),
        world.fixture.source(&other).refresh(world.seed()),
    ];
    let mut given = Vec::new();
    for (at, source) in sources.into_iter().enumerate() {
        let token = source.build().unwrap().token().await.unwrap();
        assert!(!given.contains(&token));
        given.push(token);
        assert_eq!(world.fixture.authority.refreshes(), at as u64 + 1);
    }
    world.is_sound();
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_one_request_for_all_that_use_it() {
    let world = World::new("refused", Duration::from_secs(600));
    let [first, second] = [world.source(), world.source()];
    let token = first.token().await.unwrap();
    assert_eq!(second.token().await.unwrap(), token);
    world.fixture.clock.advance(30);
    first.refused(&token);
    let next = first.token().await.unwrap();
    assert_ne!(next, token);
    second.refused(&token);
    assert_eq!(second.token().await.unwrap(), next);
    assert_eq!(world.fixture.authority.refreshes(), 2);
}

/// A resource that refuses whatever it is sent, for an hour; and another one that uses the same seed.
#[tokio::test]
async fn a_hostile_resource_uses_up_few_refresh_tokens_and_none_of_anothers() {
    let world = World::new("hostile", Duration::from_secs(36_000));
    let hostile = world
        .settings()
        .resource("https://a.example")
        .build()
        .unwrap();
    let other = world
        .settings()
        .resource("https://b.example")
        .build()
        .unwrap();
    let kept = other.token().await.unwrap();
    let mut refreshes = Vec::new();
    for _ in 0..3600 {
        let token = hostile.token().await.unwrap();
        for _ in 0..10 {
            hostile.refused(&token);
        }
        assert_eq!(other.token().await.unwrap(), kept);
        refreshes.push(world.fixture.authority.refreshes());
        world.fixture.clock.advance(1);
    }
    // One for each of the two at first. None younger than 30 s, and one a minute: the second at 30 s,
    // the third at 90 s, and as that one is refused too, a pause of 15 min.
    let at = |second: usize| refreshes[second];
    assert_eq!((at(0), at(29), at(31)), (2, 2, 3));
    assert_eq!((at(89), at(91), at(980)), (3, 4, 4));
    // Then two more in each 17 minutes.
    assert_eq!(at(3599), 2 + 2 + 3 * 2);
    // The other one's own refusal counts for itself.
    other.refused(&kept);
    successor(&other, &kept).await;
    world.is_sound();
}

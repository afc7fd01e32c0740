//! Authorization servers that refuse, fail, are slow, or rotate a refresh token without saying so.

use std::fs;
use std::time::Duration;

use bowline_testkit::authority::{InjectedFault, RefreshTokens};
use bowline_token::{ErrorKind, OAuth, OAuthErrorCode, TokenSource};

use super::World;

/// The source asks for its first token with the metadata at hand, so that a fault meets the request
/// for the next one alone.
async fn started(world: &World, timeout: Duration) -> OAuth {
    let source = world.settings().timeout(timeout).build().unwrap();
    source.token().await.unwrap();
    world.fixture.clock.advance(60);
    source
}

#[tokio::test]
async fn invalid_grant_ends_the_source_until_there_is_another_seed() {
    let world = World::new("revoked", Duration::from_secs(60));
    let source = started(&world, Duration::from_secs(10)).await;
    let authority = &world.fixture.authority;
    authority.revoke_refresh_token(&world.first);
    let error = source.token().await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidGrant)
    );
    let said = format!(
        "the refresh token in the seed {} has expired, was revoked, or was used by somebody else: \
         sign in again, and put a new one there; nothing more is requested with this one",
        world.seed().display()
    );
    assert!(error.to_string().contains(&said), "{error}");
    assert!(!error.is_worth_another_try());
    assert_eq!(authority.token_requests(), 2);
    for _ in 0..20 {
        world.fixture.clock.advance(60);
        let again = source.token().await.unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
    }
    assert_eq!(
        authority.token_requests(),
        2,
        "nothing more is requested with it"
    );

    world.sign_in(&authority.issue_refresh_token("agent", "alice"));
    world.fixture.clock.advance(60);
    source.token().await.unwrap();
    world.is_sound();
}

/// What a server answers when it sees a refresh token for the second time, after an answer that never
/// arrived.
#[tokio::test]
async fn an_answer_that_is_lost_ends_the_seed_only_where_the_server_takes_the_second_request_for_theft()
 {
    let limit = Duration::from_secs(2);
    for fault in [InjectedFault::ResponseHeld, InjectedFault::ResponseLost] {
        let world = World::new(&format!("grace-{fault:?}"), Duration::from_secs(60));
        let authority = &world.fixture.authority;
        authority.set_refresh_tokens(RefreshTokens::RotatedWithGrace);
        let source = started(&world, limit).await;
        let before = world.stored_refresh_token();
        authority.set_fault(fault);
        let error = source.token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(!authority.is_live_refresh_token(&before), "it is used up");
        assert_eq!(world.stored_refresh_token(), before);
        authority.set_fault(InjectedFault::None);
        world.fixture.clock.advance(1);
        source.token().await.unwrap();
        world.is_sound();

        let world = World::new(&format!("strict-{fault:?}"), Duration::from_secs(60));
        let authority = &world.fixture.authority;
        let source = started(&world, limit).await;
        authority.set_fault(fault);
        source.token().await.unwrap_err();
        authority.set_fault(InjectedFault::None);
        world.fixture.clock.advance(1);
        let error = source.token().await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Refused(OAuthErrorCode::InvalidGrant)
        );
        let said = "was used up, as it seems, by an earlier request whose answer was lost";
        assert!(error.to_string().contains(said), "{error}");
        // Another process is told the same.
        let error = world.source().token().await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

/// The connection ends after the request was sent and before it was processed: the second request,
/// made at once, is the first that the server sees.
#[tokio::test]
async fn a_request_that_was_not_processed_costs_nothing() {
    let world = World::new("down", Duration::from_secs(60));
    let source = started(&world, Duration::from_secs(10)).await;
    let authority = &world.fixture.authority;
    for fault in [
        InjectedFault::Down,
        InjectedFault::Unavailable { retry_after: 1 },
        InjectedFault::Garbage,
        InjectedFault::Endless,
    ] {
        authority.set_fault(fault);
        let error = source.token().await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol),
            "{error}"
        );
        world.fixture.clock.advance(60);
    }
    authority.set_fault(InjectedFault::None);
    source.token().await.unwrap();
    world.is_sound();
    assert_eq!(authority.refreshes(), 2);
}

/// The request of one source hangs until its time-out; then the other has the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_hangs_holds_the_lock_no_longer_than_its_time_out() {
    let world = World::new("hangs", Duration::from_secs(60));
    let first = started(&world, Duration::from_secs(2)).await;
    let second = started_elsewhere(&world).await;
    let authority = &world.fixture.authority;
    authority.set_fault(InjectedFault::Hold);
    let hanging = tokio::spawn(async move { first.token().await });
    authority.held(1).await;
    let waiting = tokio::spawn(async move { second.token().await });
    let error = hanging.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("within 2s"), "{error}");
    // Else the server would process it, and take the same token a second time.
    authority.given_up(1).await;
    authority.set_fault(InjectedFault::None);
    waiting.await.unwrap().unwrap();
    world.is_sound();
}

/// A source that has fetched the metadata, and takes the token that is in the seed.
async fn started_elsewhere(world: &World) -> OAuth {
    let source = world.settings().scope("read").build().unwrap();
    source.token().await.unwrap();
    world.fixture.clock.advance(60);
    source
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_given_back_is_waited_for_as_long_as_a_request_may_take() {
    let world = World::new("locked", Duration::from_secs(60));
    let lock = fs::File::create(world.dir.path(".seed.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let server = bowline_token::AuthorizationServer::token_endpoint("https://localhost:1/token");
    let authentication = bowline_token::ClientAuthentication::tls("agent");
    let source = OAuth::builder(world.client.clone(), server, authentication);
    super::write_seed(&world.seed(), "agent", "https://localhost:1/token", "r");
    let source = source.refresh(world.seed()).build().unwrap();
    let started = tokio::time::Instant::now();
    let error = source.token().await.unwrap_err();
    let said = "another process has locked the seed";
    assert!(error.to_string().contains(said), "{error}");
    assert!(error.to_string().contains("for 25s"), "{error}");
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(25), "{waited:?}");
}

/// A directory that is gone while the answer is on its way, together with what was written there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_written_is_kept_and_written_later() {
    let world = World::new("unwritten", Duration::from_secs(60));
    let directory = world.dir.path("inner");
    fs::create_dir(&directory).unwrap();
    let seed = directory.join("seed");
    fs::rename(world.seed(), &seed).unwrap();
    let settings = world.fixture.source(&world.client).refresh(&seed);
    let source = settings.build().unwrap();
    source.token().await.unwrap();
    world.fixture.clock.advance(60);
    let authority = &world.fixture.authority;
    authority.set_fault(InjectedFault::Hold);
    let asking = {
        let source = source.clone();
        tokio::spawn(async move { source.token().await })
    };
    authority.held(1).await;
    let away = world.dir.path("away");
    fs::rename(&directory, &away).unwrap();
    authority.set_fault(InjectedFault::None);
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::File);
    assert!(error.to_string().contains("kept in memory"), "{error}");
    fs::remove_file(away.join(".seed.next")).unwrap();
    fs::rename(&away, &directory).unwrap();
    world.fixture.clock.advance(1);
    source.token().await.unwrap();
    assert_eq!(
        authority.refreshes(),
        2,
        "the answer was not requested again"
    );
    let stored: serde_json::Value = serde_json::from_slice(&fs::read(&seed).unwrap()).unwrap();
    assert!(authority.is_live_refresh_token(stored["refresh_token"].as_str().unwrap()));
}

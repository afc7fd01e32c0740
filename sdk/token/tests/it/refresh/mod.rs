//! The refresh grant with a seed file: the course of many tokens, and what decides when one is
//! requested.

mod seeds;
mod servers;
mod sharing;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bowline_http_client::{Client, DpopKey};
use bowline_testkit::authority::{
    AuthorityOptions, Client as Registration, ClientAuthentication as Registered, RefreshTokens,
};
use bowline_testkit::pki::KeyKind;
use bowline_token::{
    AssertionKey, AuthorizationServer, Builder, ClientAuthentication, OAuth, RequiredBinding,
    TokenSource,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::file::Dir;
use crate::fixture::{Fixture, bound_to, identity};

/// An authorization server, a client, and a seed after a sign-in.
pub(crate) struct World {
    fixture: Fixture,
    client: Client,
    dir: Dir,
    /// The refresh token of the sign-in.
    first: String,
}

impl World {
    fn new(name: &str, lifetime: Duration) -> Self {
        let fixture = Fixture::with(AuthorityOptions {
            lifetime,
            ..AuthorityOptions::default()
        });
        let world = Self {
            client: fixture.client(),
            dir: Dir::new(&format!("refresh-{name}")),
            first: fixture.authority.issue_refresh_token("agent", "alice"),
            fixture,
        };
        world.sign_in(&world.first);
        world
    }

    /// Writes the seed as a user's program should.
    fn sign_in(&self, refresh_token: &str) {
        let beside = self.dir.path("beside");
        write_seed(
            &beside,
            "agent",
            self.fixture.authority.issuer(),
            refresh_token,
        );
        fs::rename(beside, self.seed()).unwrap();
    }

    fn seed(&self) -> PathBuf {
        self.dir.path("seed")
    }

    fn source(&self) -> OAuth {
        self.settings().build().expect("usable settings")
    }

    fn settings(&self) -> Builder {
        self.fixture.source(&self.client).refresh(self.seed())
    }

    fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.seed()).unwrap()).unwrap()
    }

    fn stored_refresh_token(&self) -> String {
        self.stored()["refresh_token"].as_str().unwrap().to_owned()
    }

    /// The seed holds the one refresh token that the server accepts, in a file of this user alone,
    /// and nothing is left beside it.
    fn is_sound(&self) {
        let stored = self.stored_refresh_token();
        assert!(self.fixture.authority.is_live_refresh_token(&stored));
        let mode = fs::metadata(self.seed()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!self.dir.path(".seed.next").exists());
    }
}

/// Writes a seed, mode 0600.
pub(crate) fn write_seed(path: &Path, client: &str, issuer: &str, refresh_token: &str) {
    let seed = json!({
        "client_id": client,
        "issuer": issuer,
        "refresh_token": refresh_token,
    });
    write_private(path, seed.to_string().as_bytes());
}

fn write_private(path: &Path, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut options.open(path).unwrap(), bytes).unwrap();
}

/// Waits until no request is under way.
async fn settle(world: &World, source: &OAuth) {
    let waiting = async {
        while source.counts().requested > world.fixture.authority.refreshes() {
            tokio::task::yield_now().await;
        }
        // The answer has to be read and the seed replaced.
        while world.dir.path(".seed.next").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("the request ends");
}

/// Each second of the clock twenty callers ask, until 120 tokens have been given out and have come
/// to their end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_twenty_tokens_cost_one_refresh_each_and_the_seed_is_never_lost() {
    const LIFETIMES: usize = 120;
    let world = World::new("lifetimes", Duration::from_secs(10));
    let source = world.source();
    let mut given: BTreeMap<SystemTime, String> = BTreeMap::new();
    while given.len() <= LIFETIMES {
        let tokens = join_all((0..20).map(|_| source.token())).await;
        for token in tokens {
            let token = token.expect("never an error");
            let access = token.access_token().secret().to_owned();
            given.insert(token.expires_at().expect("its end is known"), access);
        }
        settle(&world, &source).await;
        world.is_sound();
        world.fixture.clock.advance(1);
    }
    let authority = &world.fixture.authority;
    let ended = given.len() as u64 - 1;
    assert_eq!(ended, LIFETIMES as u64);
    // The last request may have brought one that nobody has asked for yet.
    let refreshes = authority.refreshes();
    assert!((ended + 1..=ended + 2).contains(&refreshes), "{refreshes}");
    assert_eq!(authority.token_requests(), refreshes, "none failed");
    assert_eq!(source.counts().failed, 0);
}

/// With callers that come back only after each token's end, there is nothing to refresh ahead of.
#[tokio::test]
async fn callers_that_come_after_each_expiry_cost_one_refresh_for_each() {
    let world = World::new("expiries", Duration::from_secs(60));
    let source = world.source();
    for expired in 0..120 {
        let tokens = join_all((0..20).map(|_| source.token())).await;
        assert!(
            tokens
                .iter()
                .all(|token| *token.as_ref().unwrap() == *tokens[0].as_ref().unwrap())
        );
        assert_eq!(world.fixture.authority.refreshes(), expired + 1);
        world.is_sound();
        world.fixture.clock.advance(60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_cost_one_refresh_and_the_seed_is_on_disk_before_they_get_it() {
    let world = World::new("thousand", Duration::from_secs(600));
    let source = world.source();
    let first = source.token().await.unwrap();
    // At this point, not some time later.
    world.is_sound();
    assert_ne!(world.stored_refresh_token(), world.first);
    assert_eq!(bound_to(&first), world.fixture.agent.thumbprint());
    let tokens = join_all((0..1000).map(|_| source.token())).await;
    assert!(tokens.into_iter().all(|token| token.unwrap() == first));
    assert_eq!(world.fixture.authority.token_requests(), 1);
}

/// A source's own share of chance, so that many that were given tokens at the same time do not ask at
/// the same time.
#[tokio::test]
async fn sources_that_got_their_tokens_together_refresh_at_different_times() {
    let world = World::new("jitter", Duration::from_secs(600));
    let mut due = Vec::new();
    for number in 0..8 {
        let seed = world.dir.path(&format!("seed-{number}"));
        let authority = &world.fixture.authority;
        let refresh_token = authority.issue_refresh_token("agent", "alice");
        write_seed(&seed, "agent", authority.issuer(), &refresh_token);
        let source = world.fixture.source(&world.client).refresh(seed);
        due.push(source.build().unwrap());
    }
    join_all(due.iter().map(|source| source.token())).await;
    // A fifth of the life is left at 480 s, a tenth at 540 s.
    let mut asked = Vec::new();
    world.fixture.clock.advance(479);
    for _ in 0..63 {
        join_all(due.iter().map(|source| source.token())).await;
        asked.push(
            due.iter()
                .filter(|source| source.counts().requested == 2)
                .count(),
        );
        world.fixture.clock.advance(1);
    }
    assert_eq!((asked[0], asked[62]), (0, 8), "{asked:?}");
    let moments = asked.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(moments >= 3, "{asked:?}");
}

#[tokio::test]
async fn a_server_that_does_not_rotate_gets_the_same_refresh_token_each_time() {
    let world = World::new("kept", Duration::from_secs(60));
    world
        .fixture
        .authority
        .set_refresh_tokens(RefreshTokens::Kept);
    let source = world.source();
    for refreshes in 1..=3 {
        source.token().await.unwrap();
        assert_eq!(world.fixture.authority.refreshes(), refreshes);
        assert_eq!(world.stored_refresh_token(), world.first);
        world.is_sound();
        world.fixture.clock.advance(60);
    }
}

#[tokio::test]
async fn each_method_of_client_authentication_works_and_the_server_binds_the_token() {
    let world = World::new("methods", Duration::from_secs(60));
    let authority = &world.fixture.authority;
    let signer = world.fixture.pki.client("signer", KeyKind::P256);
    let key = AssertionKey::from_der(&signer.key()).unwrap();
    authority.register(Registration {
        authentication: Registered::private_key_jwt(&signer),
        ..Registration::new("agent")
    });
    let by_key = ClientAuthentication::private_key_jwt("agent", key);
    let source = world.fixture.source_by(&world.client, by_key);
    let source = source
        .refresh(world.seed())
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(bound_to(&token), world.fixture.agent.thumbprint());
    world.is_sound();
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_dpop_key_is_not_written_to_the_seed() {
    let world = World::new("dpop", Duration::from_secs(60));
    let key = DpopKey::generate().unwrap();
    let client = world.fixture.client_builder();
    let client = client
        .identity(identity(&world.fixture.agent))
        .dpop_key(key.clone())
        .build()
        .unwrap();
    let source = world.fixture.source(&client).refresh(world.seed());
    let source = source.bound(RequiredBinding::Dpop).build().unwrap();
    let token = source.token().await.unwrap();
    let confirmation = token.access_token().confirmation().unwrap();
    assert_eq!(confirmation.jkt, Some(key.thumbprint()));
    assert_eq!(world.stored().get("issued"), None);
    world.is_sound();
}

/// The resource's metadata chooses a server of the list, and the seed names the one that has issued
/// it (CL-10).
#[tokio::test]
async fn a_refresh_token_goes_to_no_other_server_than_the_one_that_issued_it() {
    let world = World::new("other-server", Duration::from_secs(60));
    let other = Fixture::new();
    let resource = other.resource();
    let client = other.client();
    let server = AuthorizationServer::for_resource(resource.origin())
        .only([world.fixture.authority.issuer(), other.authority.issuer()]);
    let source = OAuth::builder(client, server, ClientAuthentication::tls("agent"));
    let source = source.refresh(world.seed()).build().unwrap();
    let error = source.token().await.unwrap_err();
    let said = "the one that was found is another: its refresh token is not sent";
    assert!(error.to_string().contains(said), "{error}");
    assert_eq!(other.authority.token_requests(), 0);
    assert_eq!(world.fixture.authority.token_requests(), 0);
    assert_eq!(world.stored_refresh_token(), world.first);
}

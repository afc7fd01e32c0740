use std::sync::Mutex as StdMutex;

use tokio::time::advance;

use super::*;
use crate::ServerEvent;
use crate::owner::OwnerClass;

/// The places of a listener with at most ten connections.
struct Scene {
    places: Arc<Places>,
    reached: Arc<StdMutex<Vec<(Limit, OwnerClass)>>>,
}

struct Visitor {
    name: &'static str,
    place: Place,
    activity: Arc<Activity>,
}

impl Scene {
    fn new() -> Self {
        Self::with(10, None)
    }

    fn with(max: usize, max_per_owner: Option<usize>) -> Self {
        let limits = ConnectionLimits {
            max_connections: max,
            max_connections_per_owner: max_per_owner,
            ..ConnectionLimits::default()
        };
        let reached: Arc<StdMutex<Vec<_>>> = Arc::default();
        let log = reached.clone();
        let observer = move |event: &ServerEvent| {
            if let ServerEvent::LimitReached { limit, holder } = *event {
                log.lock().unwrap().push((limit, holder));
            }
        };
        let places = Places::new(&limits, LimitReports::new(Some(Arc::new(observer))));
        Self { places, reached }
    }

    /// Without a certificate, from this address.
    fn stranger(&self, address: &'static str) -> Option<Visitor> {
        let peer = SocketAddr::new(address.parse().unwrap(), 1);
        let holder = Holder {
            authority: None,
            owner: Owner::of(None, Some(peer)),
        };
        self.visit(address, peer, holder)
    }

    fn client(&self, name: &'static str, authority: &str) -> Option<Visitor> {
        let holder = Holder {
            authority: Some(authority.into()),
            owner: Owner::Spiffe(name.into()),
        };
        self.visit(name, "192.0.2.1:1".parse().unwrap(), holder)
    }

    fn clients(&self, number: usize, name: &'static str, authority: &str) -> Vec<Visitor> {
        (0..number)
            .map(|_| self.client(name, authority).unwrap())
            .collect()
    }

    fn visit(&self, name: &'static str, peer: SocketAddr, holder: Holder) -> Option<Visitor> {
        let place = self.places.admit(peer)?;
        let activity = Activity::new();
        place.settle_as(holder, &activity).then_some(Visitor {
            name,
            place,
            activity,
        })
    }

    /// The limits reached since the last call.
    fn reached(&self) -> Vec<(Limit, OwnerClass)> {
        std::mem::take(&mut *self.reached.lock().unwrap())
    }
}

/// The names of those that were told to go, who then go.
fn gone(visitors: &mut Vec<Visitor>) -> Vec<&'static str> {
    use futures_util::FutureExt;
    let went: Vec<_> = visitors
        .extract_if(.., |one| one.place.evicted().now_or_never().is_some())
        .collect();
    went.iter().map(|one| one.name).collect()
}

async fn later() {
    advance(MIN_AGE).await;
}

#[tokio::test(start_paused = true)]
async fn below_four_fifths_of_the_places_there_is_no_limit_of_any_kind() {
    let scene = Scene::with(1000, None);
    let mut fleet = scene.clients(800, "one", "ca");
    later().await;
    assert!(gone(&mut fleet).is_empty());
    assert_eq!(scene.reached(), []);
    fleet.push(scene.client("other", "ca").unwrap());
    assert_eq!(gone(&mut fleet), ["one"]);
    assert_eq!(scene.reached(), [(Limit::Evicted, OwnerClass::SpiffeId)]);
}

#[tokio::test(start_paused = true)]
async fn the_idlest_connection_of_the_largest_holder_goes() {
    let scene = Scene::new();
    let mut all = scene.clients(2, "small", "ca");
    all.extend(scene.clients(4, "large", "ca"));
    all.extend(scene.clients(2, "small", "ca"));
    all.extend(scene.clients(0, "small", "ca"));
    later().await;
    // Of those of `large`, the third was used least recently.
    for used in [2, 3, 5] {
        all[used].activity.update(true, 1);
        all[used].activity.update(true, 0);
        advance(Duration::from_secs(1)).await;
    }
    all[0].name = "the idlest of all";
    all[4].name = "the idlest of the largest";
    drop(all.pop());
    all.push(scene.client("new", "ca").unwrap());
    assert!(gone(&mut all).is_empty());
    all.push(scene.client("newer", "ca").unwrap());
    assert_eq!(gone(&mut all), ["the idlest of the largest"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_an_open_request_or_in_its_first_ten_seconds_stays() {
    let scene = Scene::new();
    let mut all = scene.clients(6, "large", "ca");
    all.extend(scene.clients(2, "small", "ca"));
    for one in &all[..6] {
        one.activity.update(true, 1);
    }
    later().await;
    // No connection of the largest holder may go, and for no other does a smaller one lose.
    all.push(scene.client("new", "ca").unwrap());
    all.push(scene.client("newer", "ca").unwrap());
    assert!(scene.client("newest", "ca").is_none());
    assert!(gone(&mut all).is_empty());
    assert_eq!(scene.reached(), [(Limit::Full, OwnerClass::Address)]);

    all[3].activity.update(true, 0);
    all.push(scene.client("newest", "ca").unwrap());
    assert_eq!(gone(&mut all), ["large"]);

    let scene = Scene::new();
    let mut young = scene.clients(10, "one", "ca");
    assert!(scene.client("one", "ca").is_none());
    advance(MIN_AGE - Duration::from_millis(1)).await;
    assert!(scene.client("one", "ca").is_none());
    assert!(gone(&mut young).is_empty());
    advance(Duration::from_millis(1)).await;
    assert!(scene.client("one", "ca").is_some());
    assert_eq!(gone(&mut young), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn while_strangers_hold_more_than_a_fifth_the_largest_address_prefix_loses_first() {
    let scene = Scene::new();
    let mut all = scene.clients(5, "large", "ca");
    all.extend(scene.stranger("192.0.2.1"));
    all.extend(scene.stranger("2001:db8::1"));
    all.extend(scene.stranger("2001:db8::2"));
    later().await;
    all.push(scene.client("new", "ca").unwrap());
    assert_eq!(gone(&mut all), ["2001:db8::1"]);
    assert_eq!(scene.reached(), [(Limit::Evicted, OwnerClass::Address)]);
    // Now they hold a fifth.
    all.push(scene.client("newer", "ca").unwrap());
    assert_eq!(gone(&mut all), ["large"]);
    // Where none of theirs may go, the clients with certificates have their turn.
    all.push(scene.stranger("192.0.2.9").unwrap());
    assert_eq!(gone(&mut all), ["large"]);
    for one in &all {
        if one.name.contains([':', '.']) {
            one.activity.update(true, 1);
        }
    }
    all.push(scene.client("newest", "ca").unwrap());
    assert_eq!(gone(&mut all), ["large"]);
}

/// Or a thief with many names, one idle connection each, would push out the honest fleet.
#[tokio::test(start_paused = true)]
async fn the_largest_holder_is_looked_for_among_the_clients_of_the_largest_authority() {
    let scene = Scene::new();
    let mut all = scene.clients(3, "fleet", "honest");
    for name in ["a", "b", "c", "d", "e"] {
        all.extend(scene.client(name, "thief's"));
    }
    later().await;
    all.push(scene.client("new", "honest").unwrap());
    assert_eq!(gone(&mut all), ["a"]);
    // The same name from another authority is another holder.
    let scene = Scene::new();
    let mut all = scene.clients(3, "fleet", "honest");
    all.extend(scene.clients(2, "fleet", "thief's"));
    all.extend(scene.clients(3, "own", "thief's"));
    later().await;
    all.push(scene.client("new", "honest").unwrap());
    assert_eq!(gone(&mut all), ["own"]);
}

#[tokio::test(start_paused = true)]
async fn places_are_free_again_when_their_connections_are_closed() {
    let scene = Scene::new();
    for _ in 0..100 {
        let all = scene.clients(8, "one", "ca");
        drop(all);
    }
    let handshaking: Vec<_> = (0..8)
        .map(|_| scene.places.admit("192.0.2.1:1".parse().unwrap()))
        .collect();
    drop(handshaking);
    let table = scene.places.table();
    assert_eq!(table.held(), 0);
    assert!(table.holders.is_empty() && table.authorities.is_empty());
    assert_eq!(table.unverified, 0);
}

#[tokio::test(start_paused = true)]
async fn those_that_are_still_closing_are_limited_too() {
    let scene = Scene::new();
    let mut all = scene.clients(8, "one", "ca");
    later().await;
    let mut admitted = 0;
    while let Some(one) = scene.client("one", "ca") {
        admitted += 1;
        all.push(one);
        later().await;
    }
    assert_eq!(admitted, 10 / 5 + CLOSING + 1);
    assert_eq!(scene.reached().last().unwrap().0, Limit::Full);
}

#[tokio::test(start_paused = true)]
async fn an_address_begins_a_limited_number_of_handshakes_where_few_places_are_left() {
    let scene = Scene::with(1000, None);
    let mut all = scene.clients(800, "one", "ca");
    later().await;
    let flood = || scene.stranger("192.0.2.66");
    let mut begun = 0;
    while let Some(one) = flood() {
        begun += 1;
        drop(one);
        gone(&mut all);
        // Above four fifths again.
        while scene.places.table().held() < 800 {
            let place = scene.places.admit("198.51.100.1:1".parse().unwrap());
            let holder = Holder {
                authority: Some("ca".into()),
                owner: Owner::Spiffe("one".into()),
            };
            let (name, place, activity) = ("one", place.unwrap(), Activity::new());
            assert!(place.settle_as(holder, &activity));
            all.push(Visitor {
                name,
                place,
                activity,
            });
        }
        later().await;
    }
    let at_once = HANDSHAKES_AT_ONCE.get();
    // governor's clock is not paused.
    assert!((at_once..at_once * 2).contains(&begun), "{begun}");
    let last = scene.reached().pop();
    assert_eq!(last, Some((Limit::HandshakeRate, OwnerClass::Address)));
    assert!(scene.stranger("192.0.2.67").is_some(), "another address");
}

#[tokio::test(start_paused = true)]
async fn a_cap_for_each_owner_is_an_option_and_holds_whatever_the_load() {
    let scene = Scene::with(1000, Some(2));
    let mut all = scene.clients(2, "one", "ca");
    assert!(scene.client("one", "ca").is_none());
    assert_eq!(scene.reached(), [(Limit::OwnerFull, OwnerClass::SpiffeId)]);
    all.extend(scene.clients(2, "other", "ca"));
    later().await;
    all.push(scene.client("one", "ca").unwrap());
    assert_eq!(gone(&mut all), ["one"]);
    assert_eq!(all.len(), 4);
}

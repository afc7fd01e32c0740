use http::Uri;

use super::*;
use crate::config::HttpVersions;
use crate::conn::identities::Identities;
use crate::conn::tls::Trust;

fn origin(number: usize) -> Origin {
    let uri: Uri = format!("http://host{number}.example").parse().unwrap();
    Origin::from_uri(&uri).unwrap()
}

fn no_identity() -> Arc<IdentityConfig> {
    let trust = Trust::default();
    Identities::new(None, Vec::new(), trust, HttpVersions::Auto)
        .unwrap()
        .current()
}

#[test]
fn each_origin_has_one_key_also_if_origins_alternate() {
    let (mut destinations, identity) = (Destinations::new(), no_identity());
    let mut keys = || {
        let keys = (0..8).map(|n| destinations.key(&origin(n), &identity, |_| true));
        keys.collect::<Vec<_>>()
    };
    let first = keys();
    assert_eq!(keys(), first);
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn unused_destinations_are_forgotten_and_used_ones_are_not_looked_through_each_time() {
    let (mut destinations, identity) = (Destinations::new(), no_identity());
    let looks = std::cell::Cell::new(0);
    let in_use = |_| {
        looks.set(looks.get() + 1);
        true
    };
    for n in 0..=MAX_DESTINATIONS {
        destinations.key(&origin(n), &identity, in_use);
    }
    assert_eq!(looks.replace(0), 2 * MAX_DESTINATIONS);
    destinations.key(&origin(MAX_DESTINATIONS + 1), &identity, in_use);
    assert_eq!(looks.get(), 0);
    for n in 0..MAX_DESTINATIONS {
        let number = MAX_DESTINATIONS + 2 + n;
        destinations.key(&origin(number), &identity, |_| false);
    }
    assert!(destinations.by_key.len() < MAX_DESTINATIONS);
    assert_eq!(destinations.by_key.len(), destinations.keys.len());
}

use super::*;

const PERIOD: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn newest(nonces: &DpopNonces, seconds: u64) -> String {
    nonces.newest(at(seconds)).as_str().to_owned()
}

fn accepts(nonces: &DpopNonces, seconds: u64, nonce: &str) -> bool {
    let accepted = nonces.accepted(at(seconds));
    accepted.all().iter().any(|known| known.as_str() == nonce)
}

fn shared(secrets: &[u8]) -> DpopNonces {
    let secrets = secrets.iter().map(|byte| [*byte; 32]);
    DpopNonces::shared(&NodeSecrets::new(secrets).unwrap(), PERIOD)
}

#[test]
fn a_nonce_is_issued_for_one_period_and_accepted_for_two() {
    let nonces = DpopNonces::random(PERIOD);
    let first = newest(&nonces, 6000);
    assert_eq!(newest(&nonces, 6059), first);
    assert_ne!(newest(&nonces, 6060), first);
    for (now, accepted) in [(5999, false), (6000, true), (6119, true), (6120, false)] {
        assert_eq!(accepts(&nonces, now, &first), accepted, "{now}");
    }
    assert_eq!(first.len(), 22, "128 bits");
}

/// A node whose clock is ahead has issued it.
#[test]
fn the_nonce_of_the_coming_period_is_accepted_where_nodes_share_a_secret() {
    let nonces = DpopNonces::new(&[7; 32], PERIOD);
    let next = newest(&nonces, 6060);
    for (now, accepted) in [(5999, false), (6000, true), (6179, true), (6180, false)] {
        assert_eq!(accepts(&nonces, now, &next), accepted, "{now}");
    }
    // Its client needs no other one, least of all an older one.
    let accepted = nonces.accepted(at(6040));
    assert!(accepted.newer_than(Some(&next)).is_none());
    let current = newest(&nonces, 6040);
    assert!(accepted.newer_than(Some(&current)).is_none());
    let before = newest(&nonces, 5980);
    for older in [None, Some(before.as_str()), Some("made up")] {
        let newer = accepted.newer_than(older).expect("a newer one");
        assert_eq!(newer.as_str(), current);
    }
}

#[test]
fn a_nonce_is_accepted_through_the_second_that_is_stated_and_not_in_the_next() {
    for nonces in [shared(&[7]), shared(&[7, 8]), DpopNonces::random(PERIOD)] {
        for now in [6000, 6030, 6059, 6060] {
            let accepted = nonces.accepted(at(now));
            for nonce in accepted.all() {
                let until = accepted.until(Some(nonce.as_str())).as_secs();
                assert!(accepts(&nonces, until, nonce.as_str()), "{now}");
                assert!(!accepts(&nonces, until + 1, nonce.as_str()), "{now}");
            }
        }
    }
}

#[test]
fn nodes_with_one_secret_accept_each_others_nonces_and_no_others() {
    let [one, same, other] =
        [[7; 32], [7; 32], [8; 32]].map(|secret| DpopNonces::new(&secret, PERIOD));
    assert!(accepts(&one, 6000, &newest(&same, 6000)));
    assert!(!accepts(&one, 6000, &newest(&other, 6000)));
    let [one, other] = [DpopNonces::random(PERIOD), DpopNonces::random(PERIOD)];
    assert!(!accepts(&one, 6000, &newest(&other, 6000)));
}

/// As the documentation of [`NodeSecrets`] has it: at no step does a node refuse another's nonce.
#[test]
fn a_secret_is_replaced_without_a_nonce_that_another_node_refuses() {
    let steps = [&[1][..], &[1, 2], &[2, 1], &[2]].map(shared);
    for pair in steps.windows(2) {
        let [before, after] = pair else {
            unreachable!()
        };
        assert!(accepts(after, 6000, &newest(before, 6000)));
        assert!(accepts(before, 6000, &newest(after, 6000)));
    }
    assert!(!accepts(&steps[0], 6000, &newest(&steps[3], 6000)));
    // The nonce of an old secret is replaced.
    let old = newest(&steps[1], 6000);
    let newer = steps[2].accepted(at(6000)).newer_than(Some(&old));
    assert_eq!(newer.unwrap().as_str(), newest(&steps[2], 6000));
}

#[test]
fn the_first_period_and_a_period_of_zero_do_not_panic() {
    let nonces = DpopNonces::new(&[7; 32], Duration::ZERO);
    nonces.accepted(at(0));
    assert_ne!(newest(&nonces, 1), newest(&nonces, 3));
    nonces.accepted(UnixTime::since_unix_epoch(Duration::from_secs(
        u64::MAX - 1,
    )));
}

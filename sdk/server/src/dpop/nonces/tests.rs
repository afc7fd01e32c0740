use super::*;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn accepted(nonces: &DpopNonces, seconds: u64) -> [String; 2] {
    nonces
        .accepted(at(seconds))
        .map(|nonce| nonce.as_str().to_owned())
}

#[test]
fn a_nonce_is_issued_for_one_period_and_accepted_for_two() {
    let nonces = DpopNonces::new(&[7; 32], Duration::from_secs(60));
    let [first, before] = accepted(&nonces, 6000);
    assert_eq!(accepted(&nonces, 6059), [first.clone(), before.clone()]);
    let [second, last] = accepted(&nonces, 6060);
    assert_eq!(last, first);
    assert!(second != first && second != before);
    assert!(!accepted(&nonces, 6120).contains(&first));
    assert_eq!(first.len(), 22, "128 bits");
}

#[test]
fn a_nonce_is_accepted_through_the_second_that_is_stated_and_not_in_the_next() {
    let nonces = DpopNonces::new(&[7; 32], Duration::from_secs(60));
    for now in [6000, 6030, 6059, 6060] {
        let [newest, before] = accepted(&nonces, now);
        for (nonce, is_newest) in [(newest, true), (before, false)] {
            let until = nonces.accepted_until(at(now), is_newest).as_secs();
            assert!(accepted(&nonces, until).contains(&nonce), "{now}");
            assert!(!accepted(&nonces, until + 1).contains(&nonce), "{now}");
        }
    }
}

#[test]
fn nodes_with_one_secret_accept_each_others_nonces_and_no_others() {
    let period = Duration::from_secs(60);
    let [one, same, other] =
        [[7; 32], [7; 32], [8; 32]].map(|secret| DpopNonces::new(&secret, period));
    assert_eq!(accepted(&one, 6000), accepted(&same, 6000));
    assert_ne!(accepted(&one, 6000), accepted(&other, 6000));
    let [one, other] = [DpopNonces::random(period), DpopNonces::random(period)];
    assert_ne!(accepted(&one, 6000), accepted(&other, 6000));
}

#[test]
fn the_first_period_and_a_period_of_zero_do_not_panic() {
    let nonces = DpopNonces::new(&[7; 32], Duration::ZERO);
    accepted(&nonces, 0);
    assert_ne!(accepted(&nonces, 1), accepted(&nonces, 3));
}

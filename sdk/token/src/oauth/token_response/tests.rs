use super::*;

#[test]
fn a_token_is_refreshed_a_fifth_of_its_lifetime_before_the_expiry_within_bounds() {
    let start = SystemTime::UNIX_EPOCH;
    for (lifetime, due, late) in [
        (3600, 2880, 3595),
        (600, 480, 595),
        (100, 70, 95),
        (60, 30, 55),
        (10, 5, 9),
    ] {
        let at = |seconds| start.checked_add(Duration::from_secs(seconds));
        let times = times(Duration::from_secs(lifetime), start, 0.0);
        assert_eq!(
            (times.refresh_at, times.stale_at),
            (at(due), at(late)),
            "{lifetime} s"
        );
    }
}

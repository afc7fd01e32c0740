use super::*;

#[test]
fn each_latency_is_told_as_it_was() {
    for millis in [1, 3, 50, 60_000, 3_600_000] {
        let mut tally = Tally::new();
        tally.answered(Duration::from_millis(millis));
        let told = tally.millis(0.5);
        let expected = millis as f64;
        assert!(
            (told - expected).abs() < expected / 500.0,
            "{told}, not {expected}"
        );
    }
}

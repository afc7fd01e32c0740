use proptest::prelude::*;

use super::Search;

/// Every place where the items can be, one after the other: slow, and easy to believe.
fn places(items: &[u64], from: usize, all: &[u64]) -> Vec<usize> {
    let begins = from..all.len();
    begins
        .filter(|begin| all[*begin..].starts_with(items))
        .collect()
}

proptest! {
    #[test]
    fn the_search_finds_what_a_comparison_at_every_place_finds(
        all in prop::collection::vec(0..3_u64, 1..24),
        from in 0..8_usize,
        items in prop::collection::vec(0..3_u64, 0..24),
        cuts in prop::collection::vec(0..24_usize, 0..6),
    ) {
        let from = from.min(all.len() - 1);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(items.len())).collect();
        cuts.sort_unstable();
        cuts.push(items.len());
        let mut search = Search::from(from, 0x9e37_79b9_7f4a_7c15);
        let mut come = 0;
        for cut in cuts {
            let found = search.find(&items[come..cut], &all);
            let expected = places(&items[..cut], from, &all);
            prop_assert_eq!(found, !expected.is_empty());
            if !found {
                break;
            }
            let ends = expected.iter().any(|begin| begin + cut == all.len());
            prop_assert_eq!(search.is_at_end(&all), ends);
            come = cut;
        }
    }

    #[test]
    fn an_anchored_search_finds_the_beginning_only(
        all in prop::collection::vec(0..2_u64, 0..8),
        items in prop::collection::vec(0..2_u64, 0..8),
    ) {
        let mut search = Search::at_start();
        prop_assert_eq!(search.find(&items, &all), all.starts_with(&items));
        if all.starts_with(&items) {
            prop_assert_eq!(search.is_at_end(&all), all == items);
        }
    }
}

/// Parts that are all equal, equal but for the last, periodic, and the word of Thue and Morse, in
/// which the ends of many beginnings look alike.
#[test]
fn the_cost_is_linear_in_the_number_of_parts() {
    const LEN: u64 = 1 << 12;
    let equal = |_| 0;
    let but_last = |n| u64::from(n + 1 == LEN);
    let periodic = |n: u64| n % 3;
    let thue_morse = |n: u64| u64::from(n.count_ones() % 2);
    for part in [equal, but_last, periodic, thue_morse] as [fn(u64) -> u64; 4] {
        let all: Vec<u64> = (0..LEN).map(part).collect();
        for from in [0, 1, 1000] {
            let mut search = Search::from(from, 0x9e37_79b9_7f4a_7c15);
            for item in &all[from..] {
                if !search.find(&[*item], &all) || search.is_at_end(&all) {
                    break;
                }
            }
            assert!(search.steps <= 4 * all.len(), "{} steps", search.steps);
        }
    }
}

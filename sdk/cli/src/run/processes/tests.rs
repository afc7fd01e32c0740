use super::*;

#[test]
fn a_parent_is_read_behind_any_name() {
    for (stat, expected) in [
        ("42 (sh) S 7 42 42 0", Some(7)),
        ("42 (a) Z (b) R 7 42", Some(7)),
        ("42 (sh) Z 7 42 42 0", None),
        ("42 (sh", None),
        ("", None),
    ] {
        assert_eq!(parent(stat), expected, "{stat}");
    }
}

#[test]
fn all_generations_are_below() {
    let mut found = below(
        10,
        &[(11, 10), (12, 11), (13, 12), (14, 1), (10, 1), (15, 10)],
    );
    found.sort_unstable();
    assert_eq!(found, [11, 12, 13, 15]);
}

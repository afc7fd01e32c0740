use super::*;

fn filled(bound: usize, keys: u32) -> Cache<u32, u32> {
    let mut cache = Cache::new(bound);
    for key in 0..keys {
        cache.get_or_insert_with(&key, || key * 10);
    }
    cache
}

#[test]
fn one_key_more_than_the_bound_in_turn_is_missed_rarely() {
    let mut cache = filled(1000, 1001);
    let mut missed = 0;
    for _ in 0..10 {
        for key in 0..1001 {
            cache.get_or_insert_with(&key, || {
                missed += 1;
                key * 10
            });
        }
    }
    // Some 20 are expected; with the least recently used one replaced it would be all 10,010.
    assert!(missed < 100, "{missed} of 10,010");
}

#[test]
fn it_is_never_larger_than_its_bound_and_says_what_was_replaced() {
    for bound in [0, 1, 2, 7] {
        let mut cache = Cache::new(bound);
        for key in 0..100_u32 {
            let before: Vec<u32> = cache.iter().map(|(key, _)| *key).collect();
            let (_, replaced) = cache.get_or_insert_with(&key, || key * 10);
            assert_eq!(replaced.is_some(), before.len() == bound.max(1));
            if let Some((gone, value)) = replaced {
                assert!(before.contains(&gone) && value == gone * 10);
                assert_eq!(cache.get(&gone), None);
            }
            assert!(cache.len() <= bound.max(1));
        }
    }
}

#[test]
fn every_key_finds_its_own_value_after_any_removal() {
    let mut cache = filled(50, 50);
    for removed in [49, 0, 25, 24, 48, 1] {
        assert_eq!(cache.remove(&removed), Some(removed * 10));
        assert_eq!(cache.remove(&removed), None);
        for (key, value) in cache.iter() {
            assert_eq!(cache.get(key), Some(value));
            assert_eq!(*value, key * 10);
        }
    }
    for key in 0..50 {
        let there = cache.get_mut(&key).copied();
        assert_eq!(there, cache.get(&key).copied());
        if there.is_some() {
            assert_eq!(cache.last(), Some(&(key * 10)));
        }
    }
    assert_eq!(cache.len(), 44);
    cache.clear();
    assert!(cache.len() == 0 && cache.get(&7).is_none() && cache.last().is_none());
    assert!(cache.random().is_none());
    *cache.get_or_insert_with(&7, || 70).0 += 1;
    assert_eq!(cache.get(&7), Some(&71));
}

use std::sync::Arc;

use bowline_proof::dpop::{DpopKey, Verified};

use super::*;

fn proof(jti: usize) -> ProofId {
    ProofId::from_dpop(&verified(jti))
}

fn verified(jti: usize) -> Verified {
    use std::sync::LazyLock;
    static KEY: LazyLock<DpopKey> = LazyLock::new(|| DpopKey::generate().unwrap());
    Verified {
        key: KEY.thumbprint(),
        issued_at: UnixTime::since_unix_epoch(std::time::Duration::ZERO),
        jti: jti.to_string(),
        nonce: None,
    }
}

fn owner() -> ProofOwner {
    ProofOwner::named("owner")
}

/// An insertion of this proof by one owner.
fn insert(store: &MemoryReplayStore, id: usize, now: u64, until: u64) -> Insertion {
    store.insert_now(proof(id), owner(), now, until)
}

fn entries(store: &MemoryReplayStore) -> (usize, usize) {
    let state = store.state.lock().unwrap();
    (
        state.used.len(),
        state.by_expiry.values().map(Vec::len).sum(),
    )
}

#[test]
fn a_proof_is_fresh_once_through_its_last_second() {
    let store = MemoryReplayStore::new(10);
    assert_eq!(insert(&store, 1, 100, 200), Insertion::Fresh);
    assert_eq!(insert(&store, 1, 100, 200), Insertion::Seen);
    assert_eq!(insert(&store, 2, 200, 300), Insertion::Fresh);
    assert_eq!(insert(&store, 1, 200, 200), Insertion::Seen);
    // A later insertion drops the expired entry.
    assert_eq!(insert(&store, 3, 201, 300), Insertion::Fresh);
    assert_eq!(entries(&store), (2, 2));
}

#[test]
fn another_key_with_the_same_jti_is_another_proof() {
    let mine = verified(1);
    let other = Verified {
        key: DpopKey::generate().unwrap().thumbprint(),
        ..mine.clone()
    };
    assert_ne!(ProofId::from_dpop(&mine), ProofId::from_dpop(&other));
}

#[test]
fn a_full_store_accepts_no_more_until_an_entry_has_expired() {
    let store = MemoryReplayStore::new(2);
    assert_eq!(insert(&store, 1, 100, 200), Insertion::Fresh);
    assert_eq!(insert(&store, 2, 100, 300), Insertion::Fresh);
    assert_eq!(insert(&store, 3, 200, 300), Insertion::Full);
    assert_eq!(
        insert(&store, 1, 200, 200),
        Insertion::Seen,
        "stored entries are still found"
    );
    assert_eq!(insert(&store, 3, 201, 300), Insertion::Fresh);
    assert_eq!(insert(&store, 4, 201, 300), Insertion::Full);
    assert_eq!(entries(&store), (2, 2));
}

/// Whatever clock the caller has.
#[test]
fn a_clock_that_goes_back_brings_no_dropped_entry_back() {
    let store = MemoryReplayStore::new(10);
    assert_eq!(insert(&store, 1, 100, 200), Insertion::Fresh);
    assert_eq!(insert(&store, 2, 201, 300), Insertion::Fresh);
    assert_eq!(insert(&store, 1, 150, 200), Insertion::Seen);
    assert_eq!(insert(&store, 3, 150, 201), Insertion::Fresh);
}

#[test]
fn one_owner_cannot_fill_the_store() {
    let store = MemoryReplayStore::new(1000);
    for jti in 0..800 {
        assert_eq!(insert(&store, jti, 100, 200), Insertion::Fresh);
    }
    assert_eq!(insert(&store, 800, 100, 200), Insertion::Full);
    let other = ProofOwner::named("other");
    assert_eq!(
        store.insert_now(proof(800), other, 100, 200),
        Insertion::Fresh
    );
    // What has expired counts no longer.
    for jti in 801..900 {
        assert_eq!(insert(&store, jti, 201, 300), Insertion::Fresh);
    }
}

#[test]
fn all_expired_entries_are_dropped_in_the_end() {
    let store = MemoryReplayStore::new(100_000);
    for jti in 0..1000 {
        assert_eq!(
            store.insert_now(proof(jti), owner(), 100, 100 + (jti as u64 % 7)),
            Insertion::Fresh
        );
    }
    for jti in 1000..1100 {
        assert_eq!(insert(&store, jti, 1000, 1100), Insertion::Fresh);
    }
    assert_eq!(entries(&store), (100, 100));
    assert_eq!(store.state.lock().unwrap().by_expiry.len(), 1);
}

#[test]
fn of_many_concurrent_insertions_one_is_fresh() {
    let store = Arc::new(MemoryReplayStore::new(100));
    for jti in 0..20 {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                std::thread::spawn(move || insert(&store, jti, 100, 200))
            })
            .collect();
        let fresh = threads
            .into_iter()
            .filter_map(|thread| (thread.join().unwrap() == Insertion::Fresh).then_some(()))
            .count();
        assert_eq!(fresh, 1);
    }
}

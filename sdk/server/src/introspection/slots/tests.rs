use futures_util::FutureExt;

use super::*;
use crate::owner::Owner;

fn requester(name: &str) -> Key {
    Some(Requester::new(Owner::Spiffe(name.into())))
}

fn taken(waiting: &mut (impl Future<Output = Slot> + Unpin)) -> Option<Slot> {
    waiting.now_or_never()
}

#[test]
fn a_slot_is_taken_until_it_is_dropped() {
    let slots = Slots::new(1);
    let slot = slots.acquire(requester("a")).now_or_never().unwrap();
    let mut second = Box::pin(slots.acquire(requester("a")));
    assert!(taken(&mut second).is_none());
    drop(slot);
    let slot = taken(&mut second).unwrap();
    assert!(slots.acquire(None).now_or_never().is_none());
    drop(slot);
    assert!(slots.acquire(None).now_or_never().is_some());
}

#[test]
fn slots_go_to_the_requesters_in_turn_and_in_order_within_each() {
    let slots = Slots::new(1);
    let mut held = slots.acquire(None).now_or_never().unwrap();
    // One has many questions, two have one each and come last.
    let mut waiting: Vec<_> = ["many", "many", "many", "many", "one", "another"]
        .map(|name| Box::pin(slots.acquire(requester(name))))
        .into();
    for future in &mut waiting {
        assert!(taken(future).is_none());
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        drop(held);
        let (index, slot) = waiting
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| !served.contains(index))
            .find_map(|(index, future)| Some((index, taken(future)?)))
            .expect("a free slot was not given out");
        served.push(index);
        held = slot;
    }
    assert_eq!(served, [0, 4, 5, 1, 2, 3]);
    drop(held);
}

#[test]
fn whoever_gives_up_leaves_the_queue_and_takes_no_slot_along() {
    let slots = Slots::new(1);
    let slot = slots.acquire(None).now_or_never().unwrap();
    let mut gone = Box::pin(slots.acquire(requester("a")));
    let mut granted = Box::pin(slots.acquire(requester("b")));
    let mut last = Box::pin(slots.acquire(requester("c")));
    for future in [&mut gone, &mut granted, &mut last] {
        assert!(taken(future).is_none());
    }
    drop(gone);
    assert_eq!(slots.state().turns.len(), 2);
    // Granted, and dropped before it was polled again.
    drop(slot);
    drop(granted);
    drop(taken(&mut last).unwrap());
    let state = slots.state();
    assert_eq!(
        (state.free, state.turns.len(), state.waiting.len()),
        (1, 0, 0)
    );
}

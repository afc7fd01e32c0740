use std::sync::Arc;

use super::*;

#[test]
fn a_sender_is_taken_once() {
    let slot = ParkedSender::default();
    assert_eq!(slot.take(), None);
    slot.park(1);
    assert_eq!(slot.take(), Some(1));
    assert_eq!(slot.take(), None);
}

#[test]
fn a_closed_place_drops_what_is_in_it_and_keeps_nothing() {
    let slot = ParkedSender::default();
    let sender = Arc::new(());
    slot.park(sender.clone());
    slot.close();
    assert_eq!(Arc::strong_count(&sender), 1);
    slot.park(sender.clone());
    assert_eq!(Arc::strong_count(&sender), 1);
    assert_eq!(slot.take(), None);
    slot.park(sender.clone());
    assert_eq!(slot.take(), None, "a look does not open it again");
}

use super::*;

#[test]
fn messages_are_told_apart_however_they_are_cut_up() {
    let bytes = [
        &[0, 0, 0, 0, 2, 7, 7][..],
        &[0, 0, 0, 0, 0],
        &[1, 0, 0, 1, 0],
        &[9; 256],
    ]
    .concat();
    let between = [0, 7, 12, bytes.len()];
    for size in 1..=bytes.len() {
        let (mut messages, mut at) = (MessageFraming::default(), 0);
        for part in bytes.chunks(size) {
            messages.read(part);
            at += part.len();
            assert_eq!(
                messages.is_at_boundary(),
                between.contains(&at),
                "{at} of {size} at a time"
            );
        }
        assert_eq!(messages.started, 3);
    }
}

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame
}

proptest! {
    #[test]
    fn every_frame_is_seen_however_the_bytes_are_cut(
        frames in prop::collection::vec((0u8..10, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        cut in 1usize..30,
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
        let mut watcher = Frames::default();
        let mut found = Vec::new();
        bytes.chunks(cut).for_each(|part| watcher.take(part, |frame| found.push(frame.kind)));
        let sent: Vec<u8> = frames.iter().map(|(kind, _)| *kind).collect();
        prop_assert_eq!(found, sent);
    }
}

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Takes nothing, and says nothing: something between client and server that is half dead.
struct HalfDead;

impl AsyncRead for HalfDead {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for HalfDead {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_whose_read_side_never_ends_ends_by_a_limit() {
    let mut io = FrameObserver::new(HalfDead, HttpVersion::H2, Arc::default());
    io.write_all(b"a frame").await.expect("it is hidden");
    let read = tokio::time::timeout(2 * READ_ON, io.read_u8()).await;
    let error = read.expect("a limit of its own").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("broken pipe"), "{error}");
}

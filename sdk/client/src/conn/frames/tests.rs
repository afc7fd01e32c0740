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
        bytes.chunks(cut).for_each(|part| watcher.take(part, |kind, _| found.push(kind)));
        let sent: Vec<u8> = frames.iter().map(|(kind, _)| *kind).collect();
        prop_assert_eq!(found, sent);
    }
}

/// A socket whose peer accepts nothing more and never ends its side.
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

/// B2: without PING and without a limit for responses nothing else would end the connection.
#[tokio::test(start_paused = true)]
async fn after_a_failed_write_the_peer_s_end_is_waited_for_up_to_a_limit() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let wire = Arc::new(WireState::default());
    let mut io = FrameObserver::new(HalfDead, HttpVersion::H2, wire.clone());
    let reading = tokio::time::timeout(Duration::from_secs(3600), io.read_u8());
    assert!(
        reading.await.is_err(),
        "before a failed write it may be silent"
    );
    io.write_all(b"lost").await.unwrap();
    let started = tokio::time::Instant::now();
    let reading = tokio::time::timeout(Duration::from_secs(3600), io.read_u8());
    let error = reading.await.expect("a limit of ours").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("10s"), "{error}");
    assert_eq!(started.elapsed().as_secs(), 10);
}

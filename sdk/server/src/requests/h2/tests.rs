use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection whose peer has begun.
fn begun() -> (Streams, Instant) {
    let mut streams = Streams::default();
    let now = Instant::now();
    streams.received(&frame(SETTINGS, 0, 0, b""), now);
    assert!(!streams.begun());
    (streams, now)
}

fn initial_window(size: u32) -> Vec<u8> {
    let mut payload = vec![0, 4];
    payload.extend(size.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

fn request(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        b"a field section",
    )
}

#[test]
fn a_request_is_open_from_the_end_of_its_field_section_until_this_end_ends_the_stream() {
    for whole in [true, false] {
        let (mut streams, now) = begun();
        let received = |streams: &mut Streams, bytes: Vec<u8>| {
            let size = if whole { bytes.len() } else { 1 };
            bytes
                .chunks(size)
                .for_each(|part| streams.received(part, now));
        };
        received(&mut streams, frame(HEADERS, 0, 1, b"half a field section"));
        assert_eq!(streams.open(), 0);
        assert!(!streams.begun());
        received(
            &mut streams,
            frame(CONTINUATION, END_HEADERS, 1, b"the rest"),
        );
        assert_eq!(streams.open(), 1);
        received(&mut streams, request(3));
        received(&mut streams, request(5));
        received(&mut streams, request(7));
        // Trailers, an old stream, and one that no client may open.
        received(&mut streams, request(1));
        received(&mut streams, request(2));
        assert_eq!(streams.open(), 4);
        received(&mut streams, frame(RST_STREAM, 0, 5, &[0; 4]));
        assert_eq!(streams.open(), 3);
        received(&mut streams, request(5));
        assert_eq!(streams.open(), 3, "ended streams do not return");

        streams.sent(&frame(HEADERS, END_HEADERS, 1, b"a head"), now);
        streams.sent(&frame(DATA, 0, 1, b"a part"), now);
        let end = frame(DATA, END_STREAM, 1, b"the rest");
        streams.sent(&end[..end.len() - 1], now);
        assert_eq!(streams.open(), 3);
        assert!(!streams.sent_whole_frames());
        streams.sent(&end[end.len() - 1..], now);
        assert!(streams.sent_whole_frames());
        streams.sent(&frame(HEADERS, END_HEADERS | END_STREAM, 3, b"a head"), now);
        streams.sent(&frame(RST_STREAM, 0, 7, &[0; 4]), now);
        assert_eq!(streams.open(), 0);
    }
}

#[test]
fn a_response_waits_while_its_window_is_closed_and_something_is_ready() {
    let (mut streams, now) = begun();
    let at = |seconds| now + Duration::from_secs(seconds);
    streams.received(&initial_window(4), now);
    streams.received(&request(1), now);
    assert!(!streams.is_waiting(), "the response has not begun");
    streams.sent(&frame(HEADERS, END_HEADERS, 1, b"a head"), at(1));
    assert!(!streams.is_waiting());
    streams.sent(&frame(DATA, 0, 1, b"four"), at(2));
    assert!(streams.is_waiting());
    assert_eq!(streams.stalls_at(now, LIMIT), Some(at(62)));
    assert_eq!(streams.stalls_at(at(9), LIMIT), Some(at(69)), "ready later");
    assert_eq!(streams.stalled(now, LIMIT, at(61)), None);
    let stalled = Some(Stalled::Streams(vec![1]));
    assert_eq!(streams.stalled(now, LIMIT, at(62)), stalled);

    // The window opens: the next wait begins when it is closed again.
    streams.received(&frame(WINDOW_UPDATE, 0, 1, &2_u32.to_be_bytes()), at(50));
    assert!(!streams.is_waiting());
    streams.sent(&frame(DATA, 0, 1, b"ab"), at(55));
    assert_eq!(streams.stalls_at(now, LIMIT), Some(at(115)));
    streams.received(&initial_window(5), at(56));
    assert!(!streams.is_waiting(), "a setting opens it too");
    streams.reset(1);
    assert_eq!(streams.open(), 0);
}

#[test]
fn while_the_connections_window_is_closed_all_responses_wait() {
    let (mut streams, now) = begun();
    let at = |seconds| now + Duration::from_secs(seconds);
    streams.received(&initial_window(1 << 20), now);
    for stream in [1, 3] {
        streams.received(&request(stream), now);
        streams.sent(&frame(HEADERS, END_HEADERS, stream, b"a head"), now);
    }
    for second in 0..4 {
        assert!(!streams.is_waiting());
        streams.sent(
            &frame(
                DATA,
                0,
                1,
                &[0; 16_384][..16_384 - usize::from(second == 3)],
            ),
            at(second),
        );
    }
    assert_eq!(streams.stalls_at(now, LIMIT), Some(at(63)));
    assert_eq!(
        streams.stalled(now, LIMIT, at(63)),
        Some(Stalled::Connection)
    );
    streams.received(&frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()), at(63));
    assert!(!streams.is_waiting());
}

#[test]
fn the_frame_that_resets_a_stream_is_followed_as_one() {
    let (mut streams, now) = begun();
    streams.received(&request(1), now);
    streams.sent(&reset_frame(1), now);
    assert_eq!(streams.open(), 0);
}

#[test]
fn rubbish_is_no_request_and_takes_no_memory() {
    let (mut streams, now) = begun();
    streams.received(&[0xff; 100_000], now);
    streams.sent(&[0xff; 100_000], now);
    assert_eq!(streams.open(), 0);
    assert_eq!(streams.received.payload.capacity(), 0);
}

use futures_util::stream::Iter;
use http_body::Frame;
use http_body_util::StreamBody;

use super::*;

type Frames = Vec<Result<Frame<Bytes>, bowline_http_client::Error>>;
type Chunks =
    StreamBody<Iter<std::vec::IntoIter<Result<Frame<Bytes>, bowline_http_client::Error>>>>;

fn body(chunks: &[&[u8]]) -> Chunks {
    let frames: Frames = chunks
        .iter()
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    StreamBody::new(stream::iter(frames))
}

/// The events of chunks, and the error that ended them, if one did.
async fn read(events: Events<Chunks>) -> (Vec<Event>, Option<SseError>) {
    let mut all = (Vec::new(), None);
    for event in events.collect::<Vec<_>>().await {
        assert!(all.1.is_none(), "nothing follows an error");
        match event {
            Ok(event) => all.0.push(event),
            Err(e) => all.1 = Some(e),
        }
    }
    all
}

/// Passes bytes through a filter alone: no end of a body is judged.
fn filtered(limit: usize, chunks: &[&[u8]]) -> Result<Vec<Event>, SseError> {
    let mut filter = Filter::new(limit);
    let mut events = VecDeque::new();
    for chunk in chunks {
        filter.add(chunk, &mut events)?;
    }
    events.into_iter().collect()
}

fn is_too_long(limit: usize, chunks: &[&[u8]]) -> bool {
    matches!(filtered(limit, chunks), Err(SseError::TooLong { .. }))
}

fn message(data: &str) -> Event {
    Event {
        event: "message".to_owned(),
        id: None,
        data: Some(data.to_owned()),
        retry: None,
    }
}

#[test]
fn lines_end_with_cr_lf_or_both_however_the_chunks_are_cut() {
    for end in ["\n", "\r", "\r\n"] {
        let text = format!("data: a{end}: b{end}data: é{end}{end}data: c{end}{end}");
        for cut in 0..=text.len() {
            let (one, two) = text.as_bytes().split_at(cut);
            assert_eq!(
                filtered(100, &[one, two]).unwrap(),
                [message("a\né"), message("c")],
                "{end:?} cut at {cut}"
            );
        }
    }
}

#[test]
fn an_event_may_be_as_long_as_the_limit_and_no_longer() {
    assert!(filtered(9, &[b"data: abc\n\n"]).is_ok());
    assert!(is_too_long(8, &[b"data: abc\n\n"]));
    assert!(filtered(18, &[b"data: a\n", b"data: abcd\n\n"]).is_ok());
    assert!(is_too_long(17, &[b"data: a\n", b"data: abcd\n\n"]));
    let two = b"data: abc\n\ndata: abc\n\n";
    let each = filtered(9, &[two]);
    assert!(each.is_ok(), "each event is measured for itself");
}

#[test]
fn each_event_is_measured_by_itself_with_any_line_ending() {
    for end in ["\n", "\r", "\r\n"] {
        let event = format!("data: ab{end}{end}");
        let whole = event.repeat(3);
        for cut in 0..whole.len() {
            let (one, two) = whole.as_bytes().split_at(cut);
            assert!(filtered(8, &[one, two]).is_ok(), "{end:?} cut at {cut}");
        }
        let two_lines = format!("data: ab{end}data: ab{end}");
        assert!(is_too_long(16, &[two_lines.as_bytes()]), "{end:?}");
    }
}

#[test]
fn an_endless_line_event_or_comment_exceeds_the_limit() {
    assert!(is_too_long(100, &[b"data: x".as_slice(); 20]));
    assert!(is_too_long(100, &[b"x\n".as_slice(); 60]));
    assert!(is_too_long(100, &[b": x".as_slice(); 50]));
    assert!(filtered(9, &[b": ping\n".as_slice(); 50]).is_ok());
    // A comment ends no event.
    let lines: [&[u8]; 3] = [b"data: ab\n", b": ping\n", b"data: ab\n"];
    assert!(is_too_long(16, &lines));
}

#[tokio::test]
async fn a_reader_that_always_has_data_yields_to_other_tasks() {
    let mut ready = Events::new(body(&[]), 100);
    ready.ready = (0..10_000).map(|_| Ok(message("x"))).collect();
    let comments = vec![b": ping\n".as_slice(); 10_000];
    let comments = Events::new(body(&comments), 100);
    for mut events in [ready, comments] {
        let read = std::future::poll_fn(|cx| {
            let mut read = 0;
            loop {
                match Pin::new(&mut events).poll_next(cx) {
                    Poll::Ready(Some(_)) => read += 1,
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Ready(Some(read)),
                }
            }
        });
        let read = read.await.expect("a pause before the end");
        assert!(read < 10_000, "{read} events without a pause");
    }
}

#[test]
fn bytes_that_are_no_utf8_become_replacement_characters() {
    let events = filtered(100, &[b"data: a\xc3", b"\n: \xff\n\n"]);
    assert_eq!(events.unwrap(), [message("a\u{fffd}")]);
    let cut = filtered(100, &[b"data: \xc3", b"\xa9\n\n"]);
    assert_eq!(cut.unwrap(), [message("\u{e9}")]);
}

/// The examples of the standard (WHATWG HTML §9.2.6), in its order.
#[test]
fn the_standards_own_examples_are_read_as_it_says() {
    let id = |id: &str| Some(id.to_owned());
    let stocks: &[u8] = b"data: YHOO\ndata: +2\ndata: 10\n\n";
    assert_eq!(filtered(100, &[stocks]).unwrap(), [message("YHOO\n+2\n10")]);
    let blocks: &[u8] = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n\
        data:  third event\n";
    let expected = [
        Event {
            id: id("1"),
            ..message("first event")
        },
        Event {
            id: id(""),
            ..message("second event")
        },
    ];
    assert_eq!(filtered(100, &[blocks]).unwrap(), expected);
    let empty: &[u8] = b"data\n\ndata\ndata\n\ndata:";
    assert_eq!(
        filtered(100, &[empty]).unwrap(),
        [message(""), message("\n")]
    );
    let spaces: &[u8] = b"data:test\n\ndata: test\n\n";
    assert_eq!(
        filtered(100, &[spaces]).unwrap(),
        [message("test"), message("test")]
    );
}

/// K3: a line that the standard ignores changes nothing, whatever it looks like.
#[test]
fn lines_that_the_standard_ignores_cost_no_event() {
    for line in [
        "retry: 1.5s",
        "retry: -1",
        "retry:",
        "x-request-id: 7",
        "padding",
        "<html>",
        "DATA: b",
        "data : b",
        " data: b",
        "Event: x",
        "id: a\0b",
        ": comment",
        ":",
    ] {
        let text = format!("event: first\nid: 0\n{line}\ndata: a\nevent: second\nid: 1\n\n");
        let expected = Event {
            event: "second".to_owned(),
            id: Some("1".to_owned()),
            ..message("a")
        };
        assert_eq!(
            filtered(200, &[text.as_bytes()]).unwrap(),
            [expected],
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn only_an_end_of_the_body_within_an_event_is_an_error() {
    for (text, is_cut) in [
        ("", false),
        ("data: a\n\n", false),
        ("data: a\r\n\r\n", false),
        ("data: a\n\n: ping\n", false),
        ("data: a\n\n\n\n", false),
        ("data: a\n", true),
        ("data: a", true),
        ("data: a\n\nd", true),
        ("{\"no\": \"event\"}", true),
    ] {
        let (_, error) = read(Events::new(body(&[text.as_bytes()]), 100)).await;
        assert_eq!(matches!(error, Some(SseError::Cut)), is_cut, "{text:?}");
        assert_eq!(error.is_some(), is_cut, "{text:?}");
    }
}

#[test]
fn only_one_byte_order_mark_is_removed() {
    let one = filtered(100, &[b"\xef\xbb", b"\xbfdata: a\n\n"]);
    assert_eq!(one.unwrap(), [message("a")]);
    let alone = filtered(100, &[b"\xef\xbb\xbf\n\xef\xbb\xbf\n\n"]);
    assert_eq!(alone.unwrap(), []);
    // What is left of the second one makes its line an unknown field.
    let two = b"\xef\xbb\xbf\xef\xbb\xbfdata: a\ndata: b\n\n\xef\xbb\xbfdata: c\n\n";
    assert_eq!(filtered(100, &[two]).unwrap(), [message("b")]);
}

#[test]
fn retry_is_read_without_data_and_only_if_it_is_a_number() {
    let mut filter = Filter::new(100);
    for (line, pause, event) in [
        ("retry: soon\n\n", None, None),
        ("retry: +7\n\n", None, None),
        ("retry: 250\n\n", Some(250), Some(250)),
        ("retry:7\n\n", Some(7), Some(7)),
        ("retry: -1\n\n", Some(7), None),
        ("retry: 99999999999999999999999\n\n", Some(7), None),
        // Before its event has ended.
        ("retry: 9\n", Some(9), None),
    ] {
        let mut events = VecDeque::new();
        filter.add(line.as_bytes(), &mut events).unwrap();
        assert_eq!(filter.retry, pause.map(Duration::from_millis), "{line}");
        let event: Option<Duration> = event.map(Duration::from_millis);
        let found = events.pop_front().map(Result::unwrap);
        assert_eq!(found.as_ref().and_then(|event| event.retry), event);
        assert!(found.is_none_or(|event| event.data.is_none()), "{line}");
    }
}

#[test]
fn an_event_has_the_fields_that_it_was_sent_with_and_no_others() {
    let text = b"id: 7\nevent: endpoint\ndata: /m\n\ndata: x\n\nid: 8\n\nid\ndata:\n\n\
        event: alone\n\nid: a\0b\ndata: y\n\nunknown: 1\nnothing\n\ndata\ndata\n\n\
        event: message\ndata:  z\nretry: 3000\n\n";
    let id = |id: &str| Some(id.to_owned());
    let events = [
        Event {
            event: "endpoint".to_owned(),
            id: id("7"),
            ..message("/m")
        },
        message("x"),
        Event {
            id: id("8"),
            data: None,
            ..message("")
        },
        Event {
            id: id(""),
            ..message("")
        },
        message("y"),
        message("\n"),
        Event {
            retry: Some(Duration::from_secs(3)),
            ..message(" z")
        },
    ];
    assert_eq!(filtered(100, &[text]).unwrap(), events);
}

#[tokio::test]
async fn bytes_that_were_read_before_come_first() {
    let events = Events::new(body(&[b"a\n\n", b"data: b\n\n"]), 100).after(b"data: ");
    let (events, error) = read(events).await;
    assert_eq!(events, [message("a"), message("b")]);
    assert!(error.is_none());
}

#[tokio::test]
async fn the_rest_of_a_body_is_available_until_its_end() {
    let mut events = Events::new(body(&[b"data: a\n\n", b"data: b\n\n"]), 100);
    events.next().await.unwrap().unwrap();
    let rest = events.into_rest().unwrap();
    assert_eq!(read(Events::new(rest, 100)).await.0, [message("b")]);
    let mut over = Events::new(body(&[b"data: a\n\n"]), 100);
    while over.next().await.is_some() {}
    assert!(over.into_rest().is_none());
    let mut failed = Events::new(body(&[b"data: longer than 3\n\n"]), 3);
    failed.next().await.unwrap().unwrap_err();
    assert!(failed.into_rest().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_fails_after_the_limit() {
    let limit = Duration::from_secs(30);
    let frames = stream::unfold(0, |n| async move {
        // Comments count: something has come.
        let pause = if n < 3 {
            limit - Duration::from_secs(1)
        } else {
            limit * 2
        };
        sleep(pause).await;
        let frame = Frame::data(Bytes::from_static(b": ping\n"));
        Some((Ok::<_, bowline_http_client::Error>(frame), n + 1))
    });
    let start = Instant::now();
    let mut events = Events::new(StreamBody::new(Box::pin(frames)), 100).silence(Some(limit));
    let error = events.next().await.unwrap().unwrap_err();
    assert!(matches!(error, SseError::Silent(silent) if silent == limit));
    assert_eq!(
        start.elapsed(),
        3 * (limit - Duration::from_secs(1)) + limit
    );
    assert!(events.next().await.is_none());
}

/// A parser that copied what follows each line would need minutes here.
#[test]
fn an_event_of_many_short_lines_costs_no_more_than_its_bytes() {
    let many = b"data\n".repeat(200_000);
    let mut events = filtered(1_000_000, &[&many, b"\n"]).unwrap();
    assert_eq!(events.remove(0).data.unwrap().len(), 199_999);
}

use tokio::time::{Instant, sleep};

use super::*;

const RESPONSE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const PROGRESS: &str = r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#;

type Events = stream::BoxStream<'static, Result<Sse, SseError>>;

fn events(data: &[&'static str], end: Option<Duration>) -> Events {
    let events: Vec<_> = data
        .iter()
        .map(|data| Ok(Sse::default().data(*data)))
        .collect();
    let end = stream::once(async move {
        match end {
            Some(end) => sleep(end).await,
            None => std::future::pending().await,
        }
    });
    Box::pin(stream::iter(events).chain(end.filter_map(|()| std::future::ready(None))))
}

/// How long each event of the stream takes to come.
async fn times(events: Events, ends: &StreamEndStats, count: usize) -> Vec<Duration> {
    let mut events = hold_response(events, ends.clone());
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        events.next().await.unwrap().unwrap();
        times.push(start.elapsed());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn a_response_comes_with_its_stream_s_end() {
    let (ends, end) = (StreamEndStats::default(), Duration::from_millis(7));
    assert_eq!(
        times(events(&[PROGRESS, RESPONSE], Some(end)), &ends, 2).await,
        [Duration::ZERO, end]
    );
    assert!(ends.are_prompt());
}

#[tokio::test(start_paused = true)]
async fn a_response_comes_with_whatever_follows_it_in_order() {
    let mut events = hold_response(
        events(&[RESPONSE, PROGRESS], None),
        StreamEndStats::default(),
    );
    for expected in [RESPONSE, PROGRESS] {
        assert_eq!(
            events.next().await.unwrap().unwrap().data.as_deref(),
            Some(expected)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_its_streams_delays_one_response_only() {
    let ends = StreamEndStats::default();
    assert_eq!(times(events(&[RESPONSE], None), &ends, 1).await, [HOLD]);
    assert_eq!(
        times(events(&[RESPONSE], None), &ends, 1).await,
        [Duration::ZERO]
    );
    // It ends its streams after all.
    let mut late = hold_response(
        events(&[RESPONSE], Some(Duration::from_secs(1))),
        ends.clone(),
    );
    late.next().await.unwrap().unwrap();
    assert!(!ends.are_prompt());
    assert!(late.next().await.is_none());
    assert!(ends.are_prompt());
}

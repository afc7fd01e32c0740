use std::cell::Cell;

use futures_util::stream::{self, BoxStream};
use tokio::time::Instant;

use super::*;

const HOLD: Duration = Duration::from_millis(50);
const RESPONSE: &str = "response";
const PROGRESS: &str = "progress";

fn events(
    data: &'static [&'static str],
    end: Option<Duration>,
) -> BoxStream<'static, &'static str> {
    let end = stream::once(async move {
        match end {
            Some(end) => sleep(end).await,
            None => std::future::pending().await,
        }
    });
    let end = end.filter_map(|()| std::future::ready(None));
    stream::iter(data.iter().copied()).chain(end).boxed()
}

/// How long each of the first items takes to come, and how often the time was over.
async fn times(events: BoxStream<'static, &'static str>, count: usize) -> (Vec<Duration>, u32) {
    let timeouts = Cell::new(0);
    let held = HoldLast::new(events, HOLD, |event| *event == RESPONSE);
    let mut held = held.on_timeout(|| timeouts.set(timeouts.get() + 1));
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        held.next().await.unwrap();
        times.push(start.elapsed());
    }
    (times, timeouts.get())
}

#[tokio::test(start_paused = true)]
async fn the_last_item_is_returned_with_the_end_of_the_stream() {
    let end = Duration::from_millis(7);
    let found = times(events(&[PROGRESS, RESPONSE], Some(end)), 2).await;
    assert_eq!(found, (vec![Duration::ZERO, end], 0));
}

#[tokio::test(start_paused = true)]
async fn items_that_follow_the_last_item_keep_their_order() {
    let events = events(&[RESPONSE, PROGRESS], None);
    let mut held = HoldLast::new(events, HOLD, |event| *event == RESPONSE);
    for expected in [RESPONSE, PROGRESS] {
        assert_eq!(held.next().await, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_end_delays_its_last_item_up_to_the_limit_and_reports_it() {
    let found = times(events(&[RESPONSE], None), 1).await;
    assert_eq!(found, (vec![HOLD], 1));
    let mut late = HoldLast::new(
        events(&[RESPONSE], Some(Duration::from_secs(1))),
        HOLD,
        |_| true,
    );
    assert_eq!(late.next().await, Some(RESPONSE));
    assert_eq!(late.next().await, None);
    assert_eq!(late.next().await, None);
}

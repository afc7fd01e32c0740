use super::*;

fn read(retry_after: &'static str, date: Option<&'static str>) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, retry_after.parse().unwrap());
    if let Some(date) = date {
        headers.insert(header::DATE, date.parse().unwrap());
    }
    super::retry_after(&headers).map(|after| after.as_secs())
}

#[test]
fn seconds_and_dates_by_the_server_s_own_clock_are_read() {
    let noon = Some("Sun, 06 Nov 1994 12:00:00 GMT");
    for (text, date, seconds) in [
        ("7", None, Some(7)),
        (" 7 ", None, Some(7)),
        ("0", noon, Some(0)),
        ("Sun, 06 Nov 1994 12:01:30 GMT", noon, Some(90)),
        ("Sun, 06 Nov 1994 11:59:59 GMT", noon, None),
        ("Sun, 06 Nov 1994 12:01:30 GMT", None, None),
        ("-1", noon, None),
        ("soon", noon, None),
        // RFC 9111 §1.2.2: more than can be counted is a very long time, and not none.
        ("99999999999999999999999", noon, Some(u64::MAX)),
        ("+7", noon, None),
        ("7.0", noon, None),
    ] {
        assert_eq!(read(text, date), seconds, "{text:?}");
    }
    assert_eq!(super::retry_after(&HeaderMap::new()), None);
}

#[test]
fn retry_after_is_bounded_to_an_hour() {
    assert_eq!(bounded(None), Duration::ZERO);
    assert_eq!(
        bounded(Some(Duration::from_secs(7))),
        Duration::from_secs(7)
    );
    assert_eq!(bounded(Some(Duration::MAX)), MAX_RETRY_AFTER);
}

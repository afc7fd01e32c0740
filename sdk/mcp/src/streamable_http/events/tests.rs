use super::*;

fn fits(limit: usize, chunks: &[&str]) -> bool {
    let mut meter = EventMeter::new(limit);
    chunks
        .iter()
        .all(|chunk| meter.add(chunk.as_bytes()).is_ok())
}

#[test]
fn a_response_has_a_result_or_an_error_and_no_method() {
    for (data, expected) in [
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
            true,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","params":{"result":1}}"#,
            false,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, false),
        (r#"{"params":{"error":1}}"#, false),
        (r#""result""#, false),
        ("", false),
    ] {
        assert_eq!(is_response(data), expected, "{data}");
    }
}

#[test]
fn an_event_may_be_as_long_as_the_limit_and_no_longer() {
    assert!(fits(9, &["data: ab\n\n"]));
    assert!(!fits(8, &["data: ab\n\n"]));
    assert!(fits(18, &["data: ab\ndata: ab\n\n"]));
    assert!(!fits(17, &["data: ab\ndata: ab\n\n"]));
}

#[test]
fn each_event_is_measured_separately_with_any_line_end() {
    for end in ["\n", "\r", "\r\n"] {
        let event = format!("data: ab{end}{end}");
        assert!(fits(9, &[&event, &event, &event]), "{end:?}");
        let whole = event.repeat(3);
        for cut in 0..whole.len() {
            assert!(
                fits(9, &[&whole[..cut], &whole[cut..]]),
                "{end:?} cut at {cut}"
            );
        }
        let two_lines = format!("data: ab{end}data: ab{end}");
        assert!(!fits(9, &[&two_lines]), "{end:?}");
    }
}

#[test]
fn a_line_without_an_end_exceeds_the_limit() {
    assert!(!fits(100, &["data: x"; 20]));
    assert!(!fits(100, &[": x"; 50]));
}

#[test]
fn comments_do_not_add_up_and_do_not_end_an_event() {
    assert!(fits(9, &[": ping\n"; 50]));
    assert!(!fits(17, &["data: ab\n", ": ping\n", "data: ab\n"]));
}

use super::*;

#[test]
fn an_end_is_reported_once_with_the_first_reason_seen() {
    let report = CloseReport::default();
    assert_eq!(report.head_seen(), None);
    assert_eq!(
        report.ended(CloseReason::PeerClosed),
        Some(CloseReason::PeerClosed)
    );
    assert_eq!(report.ended(CloseReason::Error), None);
    assert_eq!(report.head_seen(), None);
}

#[test]
fn an_expected_reason_comes_before_the_one_seen_unless_it_was_taken_back() {
    let report = CloseReport::default();
    report.expect(Some(CloseReason::Cancelled));
    report.expect(None);
    report.expect(Some(CloseReason::Idle));
    assert_eq!(
        report.ended(CloseReason::PeerClosed),
        Some(CloseReason::Idle)
    );
}

#[test]
fn the_report_waits_for_a_head_that_is_pending() {
    let report = CloseReport::default();
    report.head_pending();
    assert_eq!(report.ended(CloseReason::PeerClosed), None);
    report.expect(Some(CloseReason::ConnectionClose));
    assert_eq!(report.head_seen(), Some(CloseReason::ConnectionClose));
}

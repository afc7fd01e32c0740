use super::*;

const AT_ONCE: Resume = Resume::After(Duration::ZERO);

#[test]
fn the_third_unreadable_stream_ends_the_attempts_at_its_resume_point_and_at_no_other() {
    let limiter = ResumeLimiter::default();
    let point = limiter.point(Some("session"), Some("7"));
    for _ in 0..MAX_UNREADABLE {
        assert_ne!(limiter.check(point), Resume::GiveUp);
        limiter.clone().add(point, StreamFailure::Unreadable);
    }
    assert_eq!(limiter.check(point), Resume::GiveUp);
    for other in [
        (Some("session"), Some("8")),
        (Some("session"), None),
        (None, Some("7")),
    ] {
        assert_eq!(
            limiter.check(limiter.point(other.0, other.1)),
            AT_ONCE,
            "{other:?}"
        );
    }
}

#[test]
fn one_event_that_is_too_long_ends_the_attempts() {
    let limiter = ResumeLimiter::default();
    let point = limiter.point(Some("session"), Some("7"));
    limiter.add(point, StreamFailure::TooLong);
    assert_eq!(limiter.check(point), Resume::GiveUp);
}

#[test]
fn the_tenth_empty_stream_in_a_row_ends_the_attempts() {
    let limiter = ResumeLimiter::default();
    let point = limiter.point(Some("session"), None);
    for failure in [StreamFailure::Empty, StreamFailure::Short] {
        for _ in 1..MAX_EMPTY {
            limiter.add(point, failure);
        }
    }
    for _ in 0..MAX_EMPTY {
        assert_ne!(limiter.check(point), Resume::GiveUp);
        limiter.add(point, StreamFailure::Empty);
    }
    assert_eq!(limiter.check(point), Resume::GiveUp);
    limiter.reset(point);
    assert_eq!(limiter.check(point), AT_ONCE);
}

#[test]
fn short_streams_with_events_are_always_resumed_but_more_and_more_slowly() {
    let limiter = ResumeLimiter::default();
    let point = limiter.point(None, Some("7"));
    let mut pause = Duration::ZERO;
    for attempt in 0..1000 {
        let Resume::After(next) = limiter.check(point) else {
            panic!("{attempt}")
        };
        assert!(next >= pause && next <= MAX_PAUSE);
        pause = next;
        limiter.add(point, StreamFailure::Short);
    }
    assert_eq!(pause, MAX_PAUSE);
}

#[test]
fn the_number_of_resume_points_is_bounded() {
    let limiter = ResumeLimiter::default();
    for event in 0..2 * MAX_POINTS {
        let point = limiter.point(None, Some(&event.to_string()));
        limiter.add(point, StreamFailure::Short);
    }
    assert_eq!(limiter.lock().len(), MAX_POINTS);
}

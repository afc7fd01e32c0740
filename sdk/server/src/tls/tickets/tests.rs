use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::UnixTime;

use super::*;

/// In a handshake of its own.
fn in_handshake<T>(run: impl FnOnce() -> T) -> T {
    AUTHENTICATED_AT.sync_scope(Cell::new(None), run)
}

fn tickets_at(now: &Arc<AtomicU64>) -> ShortLivedTickets {
    let now = now.clone();
    let clock = Clock::from_fn(move || {
        UnixTime::since_unix_epoch(Duration::from_secs(now.load(Ordering::Relaxed)))
    });
    ShortLivedTickets::new(Duration::from_secs(60), None, clock).unwrap()
}

#[test]
fn a_ticket_is_accepted_until_its_lifetime_is_over_and_not_a_second_longer() {
    let now = Arc::new(AtomicU64::new(1_000));
    let tickets = tickets_at(&now);
    let ticket = in_handshake(|| tickets.encrypt(b"a session")).unwrap();
    let decrypt = || in_handshake(|| tickets.decrypt(&ticket));

    now.store(1_060, Ordering::Relaxed);
    assert_eq!(decrypt().as_deref(), Some(&b"a session"[..]));
    now.store(1_061, Ordering::Relaxed);
    assert_eq!(decrypt(), None);
    now.store(999, Ordering::Relaxed);
    assert_eq!(decrypt(), None, "a ticket from the future is refused");
}

#[test]
fn a_ticket_of_a_resumed_handshake_is_as_old_as_the_one_that_was_used_last() {
    let now = Arc::new(AtomicU64::new(1_000));
    let tickets = tickets_at(&now);
    let older = in_handshake(|| tickets.encrypt(b"older")).unwrap();
    now.store(1_020, Ordering::Relaxed);
    let newer = in_handshake(|| tickets.encrypt(b"newer")).unwrap();
    now.store(1_040, Ordering::Relaxed);
    let next = in_handshake(|| {
        tickets.decrypt(&older).unwrap();
        tickets.decrypt(&newer).unwrap();
        // It is not one of ours, so rustls does not use it.
        assert_eq!(tickets.decrypt(b"another"), None);
        tickets.encrypt(b"next").unwrap()
    });
    now.store(1_080, Ordering::Relaxed);
    assert!(in_handshake(|| tickets.decrypt(&next)).is_some());
    now.store(1_081, Ordering::Relaxed);
    assert_eq!(in_handshake(|| tickets.decrypt(&next)), None);
}

/// It could not be capped there.
#[test]
fn outside_of_a_handshake_no_ticket_is_issued_or_accepted() {
    let tickets = tickets_at(&Arc::new(AtomicU64::new(1_000)));
    assert_eq!(tickets.encrypt(b"a session"), None);
    let ticket = in_handshake(|| tickets.encrypt(b"a session")).unwrap();
    assert_eq!(tickets.decrypt(&ticket), None);
}

#[test]
fn a_lifetime_above_a_day_is_a_configuration_error() {
    let error =
        ShortLivedTickets::new(Duration::from_secs(86_401), None, Clock::default()).unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::TicketLifetime);
}

use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::UnixTime;

use super::*;

#[test]
fn a_ticket_is_accepted_until_its_lifetime_is_over_and_not_a_second_longer() {
    let now = Arc::new(AtomicU64::new(1_000));
    let hand = now.clone();
    let clock = Clock::from_fn(move || {
        UnixTime::since_unix_epoch(Duration::from_secs(hand.load(Ordering::Relaxed)))
    });
    let tickets = ShortLivedTickets::new(Duration::from_secs(60), clock).unwrap();
    let ticket = tickets.encrypt(b"a session").unwrap();

    now.store(1_060, Ordering::Relaxed);
    assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
    now.store(1_061, Ordering::Relaxed);
    assert_eq!(tickets.decrypt(&ticket), None);
    now.store(999, Ordering::Relaxed);
    assert_eq!(
        tickets.decrypt(&ticket),
        None,
        "a ticket from the future is refused"
    );
}

#[test]
fn a_lifetime_above_a_day_is_a_configuration_error() {
    let error = ShortLivedTickets::new(Duration::from_secs(86_401), Clock::default()).unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::TicketLifetime);
}

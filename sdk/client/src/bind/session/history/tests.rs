use bowline_proof::AccessToken;
use rustls_pki_types::CertificateDer;

use super::*;

fn token(name: &str) -> TokenHash {
    *AccessToken::new(name).unwrap().hash()
}

fn certificate(name: &[u8]) -> Thumbprint {
    Thumbprint::from_certificate(&CertificateDer::from(name))
}

#[test]
fn each_cause_is_told() {
    let history = TokenHistory::new(8);
    let (one, two) = (certificate(b"one"), certificate(b"two"));
    let cause =
        |token: &TokenHash, source, certificate| history.prove(token, source, certificate).cause;
    let source = Some(TokenSourceId(1));

    assert_eq!(cause(&token("a"), source, one), Cause::First);
    assert_eq!(cause(&token("a"), source, one), Cause::Parallel);
    history.closed(&token("a"), CloseReason::Goaway);
    assert_eq!(
        cause(&token("a"), source, one),
        Cause::Parallel,
        "one of two is still open"
    );
    history.closed(&token("a"), CloseReason::Goaway);
    history.closed(&token("a"), CloseReason::PeerClosed);
    assert_eq!(
        history.prove(&token("a"), source, one),
        MintCause {
            cause: Cause::Reconnect,
            after: Some(CloseReason::PeerClosed)
        }
    );
    assert_eq!(cause(&token("b"), source, one), Cause::Token);
    assert_eq!(cause(&token("c"), source, two), Cause::Identity);
    assert_eq!(cause(&token("d"), None, two), Cause::First);
}

#[test]
fn no_more_tokens_and_sources_than_the_bound_are_remembered() {
    let history = TokenHistory::new(2);
    for number in 0..10 {
        let token = token(&format!("t{number}"));
        history.prove(&token, Some(TokenSourceId(number)), certificate(b"one"));
        history.challenged(&token, Some(TokenSourceId(number)));
        let inner = history.lock();
        assert!(inner.tokens.len() <= 2 && inner.sources.len() <= 2);
    }
}

/// Otherwise each of them would be refused with 401 whenever it comes.
#[test]
fn one_token_more_than_the_bound_in_turn_is_rarely_forgotten() {
    const BOUND: usize = 1000;
    let history = TokenHistory::new(BOUND);
    let tokens: Vec<_> = (0..=BOUND).map(|n| token(&format!("t{n}"))).collect();
    let mut forgotten = 0;
    for round in 0..5 {
        for token in &tokens {
            if !history.was_challenged(token, None) {
                forgotten += usize::from(round > 0);
                history.challenged(token, None);
            }
        }
    }
    assert!(forgotten < 100, "{forgotten} of 4,004");
}

#[test]
fn a_challenge_is_remembered_for_its_token_and_its_source() {
    let history = TokenHistory::new(8);
    let source = Some(TokenSourceId(1));
    history.challenged(&token("a"), None);
    assert!(history.was_challenged(&token("a"), None));
    assert!(!history.was_challenged(&token("b"), source));
    history.challenged(&token("b"), source);
    assert!(history.was_challenged(&token("c"), source));
    assert!(!history.was_challenged(&token("c"), None));
    assert!(!history.was_challenged(&token("c"), Some(TokenSourceId(2))));
}

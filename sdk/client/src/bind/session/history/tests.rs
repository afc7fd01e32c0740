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
fn the_least_recently_used_token_is_forgotten() {
    let history = TokenHistory::new(2);
    let certificate = certificate(b"one");
    for name in ["a", "b", "c"] {
        history.prove(&token(name), None, certificate);
    }
    assert_eq!(
        history.prove(&token("c"), None, certificate).cause,
        Cause::Parallel
    );
    assert_eq!(
        history.prove(&token("a"), None, certificate).cause,
        Cause::First
    );
}

#[test]
fn a_challenge_is_remembered_for_its_token_alone() {
    let history = TokenHistory::new(8);
    history.challenged(&token("a"), None);
    assert!(history.was_challenged(&token("a"), None));
    assert!(!history.was_challenged(&token("b"), None));
}

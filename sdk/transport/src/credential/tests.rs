use bowline_token::{ErrorKind, Fixed};
use http_body_util::Empty;

use super::*;

fn token(text: &str) -> AccessToken {
    AccessToken::new(text).unwrap()
}

fn attached(
    credential: &Credential,
    given: Option<&str>,
) -> Result<(Option<AccessToken>, Option<TokenSourceId>), TwoTokens> {
    let mut extensions = Extensions::new();
    credential.attach_to(given.map(token), &mut extensions)?;
    Ok((extensions.remove(), extensions.remove()))
}

#[test]
fn the_token_of_a_call_is_attached_and_all_calls_share_a_source() {
    let credential = Credential::from_caller();
    let (first, source) = attached(&credential, Some("a")).unwrap();
    assert_eq!(first, Some(token("a")));
    assert!(source.is_some());
    assert_eq!(attached(&credential, Some("b")).unwrap().1, source);
    assert_eq!(attached(&credential, None), Ok((None, None)));
    assert!(!credential.has_token());
    assert_ne!(
        attached(&Credential::from_caller(), Some("a")).unwrap().1,
        source
    );
}

#[test]
fn a_token_of_the_adapter_and_one_of_the_call_are_an_error() {
    let fixed = Credential::Fixed(token("a"));
    let source = Credential::from_source(Fixed::new(token("a")));
    assert_eq!(attached(&fixed, None), Ok((Some(token("a")), None)));
    assert_eq!(attached(&source, None), Ok((None, None)));
    for credential in [fixed, source] {
        assert!(credential.has_token());
        assert_eq!(attached(&credential, Some("b")), Err(TwoTokens));
        assert!(!format!("{credential:?}").contains('a'), "{credential:?}");
    }
}

#[tokio::test]
async fn a_source_s_tokens_are_sent_only_to_the_origin_of_the_first_request() {
    let client = Client::builder().build().unwrap();
    let source = Fixed::new(token("a"));
    let lazy = Credential::from_source(source.clone());
    let Credential::Source(inner) = &lazy else {
        unreachable!("it is a source");
    };
    let request = |uri: &str| Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    inner
        .authorized(&client, &request("https://a.example/x"))
        .unwrap();
    let ready = Authorized::new(client.clone(), source, "https://a.example").unwrap();
    for credential in [lazy.clone(), lazy, Credential::from_authorized(ready)] {
        let error = credential.send(&client, request("https://b.example/x"));
        assert_eq!(error.await.unwrap_err().kind(), ErrorKind::OtherOrigin);
    }
}

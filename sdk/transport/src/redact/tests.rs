use super::*;

const JWS: &str = "eyJhbGciOiJFUzI1NiJ9.eyJhdGgiOiJ4In0.c2lnbmF0dXJl";

fn sent(secrets: &[&str]) -> SentTokens {
    let sent = SentTokens::default();
    for secret in secrets {
        sent.note(&AccessToken::new(*secret).unwrap());
    }
    sent
}

#[test]
fn a_sent_token_and_every_jws_are_removed_and_the_rest_is_kept() {
    let sent = sent(&["first-secret", "second/secret"]);
    for (text, redacted) in [
        (
            "no such file: /v2/notes-2026-01.txt (first-secret)".to_owned(),
            "no such file: /v2/notes-2026-01.txt (...)",
        ),
        ("first-secretsecond/secret".to_owned(), "......"),
        (r#"{"a":"second\/secret"}"#.to_owned(), r#"{"a":"..."}"#),
        (format!("proof={JWS}, and {JWS}"), "proof=..., and ..."),
        (
            "eyJhbGciOiJFUzI1NiJ9 alone".to_owned(),
            "eyJhbGciOiJFUzI1NiJ9 alone",
        ),
        ("a third-secret".to_owned(), "a third-secret"),
        (String::new(), ""),
    ] {
        assert_eq!(sent.redact(&text), redacted);
    }
}

#[test]
fn the_number_of_tokens_remembered_is_bounded_and_the_newest_are_kept() {
    let names: Vec<_> = (0..=MAX_TOKENS).map(|n| format!("secret-{n}-x")).collect();
    let sent = sent(&names.iter().map(String::as_str).collect::<Vec<_>>());
    sent.note(&AccessToken::new(names[MAX_TOKENS].as_str()).unwrap());
    assert_eq!(sent.lock().len(), MAX_TOKENS);
    assert_eq!(sent.redact("secret-0-x secret-1-x"), "secret-0-x ...");
}

#[test]
fn debug_output_shows_no_token() {
    assert!(!format!("{:?}", sent(&["the-secret"])).contains("the-secret"));
}

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

/// Halves, and what is left of a token that the server shortened.
#[test]
fn pieces_of_a_sent_token_are_removed() {
    let sent = sent(&["sk-live/Q7w9zKpX4mV2tR8yB1nC"]);
    for (text, redacted) in [
        ("it begins with sk-live/Q7w9zKp", "it begins with ..."),
        ("and ends: X4mV2tR8yB1nC", "and ends: ..."),
        ("sk-live/Q7...tR8yB1nC", "........."),
        (r"sk-live\/Q7w9zK, ä", "..., ä"),
        ("äQ7w9zKpXö4mV2tR8yö", "ä...ö...ö"),
        ("sk-live, Q7w9zKp", "sk-live, Q7w9zKp"),
        ("", ""),
    ] {
        assert_eq!(sent.redact(text), redacted);
    }
}

#[test]
fn pieces_of_a_jws_that_was_not_noted_are_removed() {
    let signature =
        "wW1pBZ7Jm4vP0sFqkC8XnRtYhLd3uGaE5oTiKjMxQz2_bV9-cNfSgHyUlOrDeA6IwW1pBZ7Jm4vP0sFqkC8XnR";
    let sent = SentTokens::default();
    let payload = "eyJpYXQiOjE3MDAwMDAwMDAsImF0aCI6IkZHbGJGSkV6WnNUZGVwT2dmUnpabDFQN2VJbGgifQ";
    for piece in [
        format!("iOjE3.{signature}"),
        format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
        signature.to_owned(),
    ] {
        assert_eq!(sent.redact(&format!("<{piece}>")), "<...>");
    }
    for kept in [
        "https://agent.example.com/.well-known/oauth-protected-resource/v2-2026/Tasks",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "urn:uuid:3f2b8c1e-9d4a-4e6f-8b7c-1a2d3e4f5a6b",
    ] {
        assert_eq!(sent.redact(kept), kept);
    }
}

#[test]
fn the_token_of_a_caller_s_field_is_removed_whatever_its_scheme() {
    for field in ["Bearer the-secret", "dpop  the-secret", "the-secret"] {
        let mut fields = HeaderMap::new();
        fields.insert(AUTHORIZATION, HeaderValue::from_static(field));
        let sent = SentTokens::of_caller(&fields);
        assert_eq!(sent.redact("was it the-secret?"), "was it ...?");
        assert!(!format!("{sent:?}").contains("secret"));
    }
    let sent = SentTokens::of_caller(&HeaderMap::new());
    assert_eq!(sent.redact("was it the-secret?"), "was it the-secret?");
}

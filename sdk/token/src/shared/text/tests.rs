use super::*;

#[test]
fn nothing_that_could_be_a_token_is_shown() {
    for (text, left) in [
        (
            "bad token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln!",
            "bad token …!",
        ),
        (
            "no such token: mF_9.B5f-4.1JqM-SlA, sorry",
            "no such token: …, sorry",
        ),
        ("key=deadbeefdeadbeefdeadbeefdeadbeefdeadbeef", "…"),
        ("0123456789abcdef", "…"),
        ("0123456789abcde", "0123456789abcde"),
        (
            "nonce \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
            "nonce \"…\"",
        ),
        (
            "task 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b is gone",
            "task 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b is gone",
        ),
        (
            "upstream agent.internal.example.com is away",
            "upstream agent.internal.example.com is away",
        ),
        ("é 2026-11-24", "é 2026-11-24"),
    ] {
        assert_eq!(printable(text), left, "{text}");
    }
}

#[test]
fn a_peer_s_text_is_shown_in_one_line_of_limited_length() {
    assert_eq!(printable(" a\r\nb\u{1b}[31m "), "a  b [31m");
    assert_eq!(printable("a\u{202e}b\u{200b}c\u{2028}d"), "a b c d");
    assert_eq!(printable(&"é".repeat(MAX_TEXT)).chars().count(), MAX_TEXT);
    assert!(printable(&"é".repeat(MAX_TEXT + 1)).ends_with('…'));
}

#[test]
fn text_that_should_be_ascii_is_shown_as_ascii() {
    assert_eq!(
        printable_ascii("no\r\n such \u{1b}[31mscope é: \"mF_9.B5f-4.1JqM-SlA\""),
        "no?? such ?[31mscope ?: ?...?"
    );
}

#[test]
fn a_url_is_shown_without_what_may_be_secret() {
    for (url, shown) in [
        (
            "https://as.example.com:8443/.well-known/oauth-authorization-server/tenant/1",
            "https://as.example.com:8443/.well-known/oauth-authorization-server/tenant/1",
        ),
        (
            "https://user:secret@as1.eu-west-1.example.com/x?code=secret#secret",
            "https://as1.eu-west-1.example.com/x?...",
        ),
        (
            "https://as.example.com/mF_9.B5f-4.1JqM-SlA/x",
            "https://as.example.com/.../x",
        ),
        ("https://as.example.com", "https://as.example.com"),
        ("https://as.example.com/", "https://as.example.com/"),
        ("/v2/mcp?code=secret", "/v2/mcp?..."),
        ("user:secret@host:8443", "host:8443"),
        ("not a url\n", "not a url?"),
    ] {
        assert_eq!(printable_url(url), shown, "{url}");
    }
    let long = printable_url(&format!("https://a.example/{}", "x/".repeat(1000)));
    assert_eq!(long.chars().count(), MAX_TEXT + 3);
}

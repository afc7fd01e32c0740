use super::*;

#[test]
fn nothing_that_could_be_a_token_is_repeated() {
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
fn text_of_others_is_quoted_on_one_line_and_up_to_a_limit() {
    assert_eq!(printable(" a\r\nb\u{1b}[31m "), "a  b [31m");
    assert_eq!(printable(&"é".repeat(MAX_TEXT)).chars().count(), MAX_TEXT);
    assert!(printable(&"é".repeat(MAX_TEXT + 1)).ends_with('…'));
}

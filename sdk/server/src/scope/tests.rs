use serde_json::json;

use super::*;

#[test]
fn all_of_a_scope_is_needed_word_by_word() {
    let needed: Scope = "read write".parse().unwrap();
    for (granted, suffices) in [
        (json!({ "scope": "write read" }), true),
        (json!({ "scope": "admin read write" }), true),
        (json!({ "scope": "read" }), false),
        (json!({ "scope": "reads writes" }), false),
        (json!({ "scope": "READ WRITE" }), false),
        (json!({ "scope": "" }), false),
        (json!({ "scope": ["read", "write"] }), false),
        (json!({}), false),
        (Value::Null, false),
    ] {
        assert_eq!(needed.is_granted(&granted), suffices, "{granted}");
    }
}

#[test]
fn text_that_is_not_allowed_in_a_challenge_is_not_a_scope() {
    for text in ["read", "mcp:tools/call", "a b c", "!#[]~"] {
        assert_eq!(text.parse::<Scope>().unwrap().as_str(), text);
    }
    for text in [
        "", " ", "a  b", " a", "a ", "a\"b", "a\\b", "ä", "a\tb", "a\nb",
    ] {
        assert_eq!(text.parse::<Scope>(), Err(InvalidScope), "{text:?}");
    }
}

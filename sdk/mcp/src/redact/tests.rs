use bowline_http_client::AccessToken;
use serde_json::json;

use super::*;

#[test]
fn a_json_rpc_error_is_redacted_in_its_message_and_its_data() {
    let data = json!({ "url": "https://x.example/a?b=the-secret", "list": ["the-secret", 7] });
    let mut error = ErrorData::invalid_params("who is the-secret?", Some(data));
    let sent = SentTokens::default();
    sent.note(&AccessToken::new("the-secret").unwrap());
    redact_error(&sent, &mut error);
    assert_eq!(error.message, "who is ...?");
    let redacted = json!({ "url": "https://x.example/a?b=...", "list": ["...", 7] });
    assert_eq!(error.data, Some(redacted));
}

//! Takes access tokens and proofs out of the errors of JSON-RPC messages (EX-7).

use bowline_transport::redact::SentTokens;
use rmcp::model::{ErrorData, ServerJsonRpcMessage};

/// Redaction of messages that are errors. Other messages are the caller's data.
pub(crate) trait RedactMessage {
    /// Redacts a message that is an error.
    fn redact_message(&self, message: &mut ServerJsonRpcMessage);

    /// The same for a message in JSON. `None` if it is not a message.
    fn redact_json(&self, message: &str) -> Option<String> {
        let mut message = serde_json::from_str(message).ok()?;
        self.redact_message(&mut message);
        serde_json::to_string(&message).ok()
    }
}

impl RedactMessage for SentTokens {
    fn redact_message(&self, message: &mut ServerJsonRpcMessage) {
        if let ServerJsonRpcMessage::Error(error) = message {
            redact_error(self, &mut error.error);
        }
    }
}

fn redact_error(sent: &SentTokens, error: &mut ErrorData) {
    error.message = sent.redact(&error.message).into();
    error.data = error.data.take().and_then(|data| sent.redact_value(&data));
}

#[cfg(test)]
mod tests;

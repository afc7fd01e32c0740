//! The session-binding extension of agent cards: an agent announces that it verifies proofs, so
//! that clients send one with the first request already.
//!
//! [`SessionBinding`] serves both sides: a server puts it into its card, a client reads it from
//! one. The book's chapter on A2A specifies it. It is an announcement only: a card is as
//! trustworthy as the connection that it came over, and without the extension an access token's own
//! requirements still hold.

use std::collections::{BTreeSet, HashMap};

use a2a::{AgentCard, AgentExtension};
use bowline_proof::EXPORTER_LABEL;
use bowline_transport::RequestBoundCalls;
use serde_json::Value;

/// The extension's URI, in cards and in `A2A-Extensions`. It is a name, not a page. Another version
/// of the extension has another URI.
pub const SESSION_BINDING: &str = "urn:uuid:9f3e662a-e659-484b-a25e-313d83914fc7";

/// The members of the extension's `params`.
const LABEL: &str = "exporterLabel";
const PER_REQUEST: &str = "perRequestClaims";

/// Maximum length of a card's text in an error, in characters.
const MAX_SHOWN: usize = 80;

/// An agent's announcement that it verifies session-binding proofs.
///
/// ```
/// use bowline_a2a::extension::SessionBinding;
///
/// # fn example(card: &mut a2a::AgentCard) {
/// let binding = SessionBinding::required().request_bound_for(["CancelTask"]);
/// card.capabilities.extensions.get_or_insert_default().push(binding.into());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBinding {
    required: bool,
    request_bound_calls: BTreeSet<Box<str>>,
}

impl SessionBinding {
    /// The agent refuses requests whose access token does not require a proof, and requests without
    /// a proof (policy `Require`, RS-13).
    pub fn required() -> Self {
        Self {
            required: true,
            request_bound_calls: BTreeSet::new(),
        }
    }

    /// The agent verifies every proof that it gets; the access token decides whether one is
    /// required (policy `Follow`, RS-13).
    pub fn supported() -> Self {
        Self {
            required: false,
            ..Self::required()
        }
    }

    /// Calls of these methods need a request-bound proof, with `htm`, `htu` and `jti` (RS-12).
    /// Methods are named as in JSON-RPC, whatever the binding: `CancelTask`.
    #[must_use]
    pub fn request_bound_for<'a>(mut self, methods: impl IntoIterator<Item = &'a str>) -> Self {
        self.request_bound_calls
            .extend(methods.into_iter().map(Box::from));
        self
    }

    /// Reads the extension from a card; `None` if the card does not have it.
    ///
    /// Unknown members of `params` and unknown methods are ignored.
    ///
    /// # Errors
    /// The card has the extension, but it is invalid or unsupported.
    pub fn from_card(card: &AgentCard) -> Result<Option<Self>, InvalidExtension> {
        let listed = card.capabilities.extensions.iter().flatten();
        let mut listed = listed.filter(|extension| extension.uri == SESSION_BINDING);
        match (listed.next(), listed.next()) {
            (None, _) => Ok(None),
            (Some(extension), None) => Self::read(extension).map(Some),
            // Readers could disagree on which one counts.
            (Some(_), Some(_)) => Err(InvalidExtension::Duplicate),
        }
    }

    /// Whether the agent refuses requests without a proof.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The calls that need a request-bound proof.
    pub fn request_bound_calls(&self) -> RequestBoundCalls {
        let methods = self.request_bound_calls.iter();
        methods.fold(RequestBoundCalls::none(), |calls, method| {
            calls.for_method(&**method)
        })
    }

    fn read(extension: &AgentExtension) -> Result<Self, InvalidExtension> {
        let params = extension.params.as_ref();
        match member(params, LABEL) {
            None => {}
            Some(Value::String(label)) if label == EXPORTER_LABEL => {}
            Some(Value::String(label)) => return Err(InvalidExtension::OtherLabel(shown(label))),
            Some(other) => return Err(InvalidExtension::wrong(LABEL, "a string", other)),
        }
        let methods = match member(params, PER_REQUEST) {
            None => BTreeSet::new(),
            Some(Value::Array(methods)) => methods.iter().map(method).collect::<Result<_, _>>()?,
            Some(other) => return Err(InvalidExtension::wrong(PER_REQUEST, LIST, other)),
        };
        Ok(Self {
            required: extension.required.unwrap_or(false),
            request_bound_calls: methods,
        })
    }
}

impl From<SessionBinding> for AgentExtension {
    fn from(binding: SessionBinding) -> Self {
        let mut params = HashMap::from([(LABEL.to_owned(), Value::from(EXPORTER_LABEL))]);
        if !binding.request_bound_calls.is_empty() {
            let methods: Vec<_> = binding
                .request_bound_calls
                .iter()
                .map(|method| &**method)
                .collect();
            params.insert(PER_REQUEST.to_owned(), methods.into());
        }
        Self {
            uri: SESSION_BINDING.to_owned(),
            description: Some(
                "Access tokens are bound to the mutual-TLS connection: each request carries a \
                 Session-Binding-Proof"
                    .to_owned(),
            ),
            required: Some(binding.required),
            params: Some(params),
        }
    }
}

/// Why a card's session-binding extension is invalid or unsupported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidExtension {
    /// The card names the extension more than once.
    #[error("the agent card names the session-binding extension more than once")]
    Duplicate,
    /// A member of the extension's `params` has the wrong JSON type.
    #[error(
        "the session-binding extension's {member} should be {expected}, and the agent card has \
         {found}"
    )]
    WrongType {
        /// The member.
        member: &'static str,
        /// The JSON type that it should have.
        expected: &'static str,
        /// The JSON type that it has.
        found: &'static str,
    },
    /// The agent binds tokens to another exporter value than this client can compute (EX-1, TK-2).
    #[error(
        "the agent card binds tokens by the exporter label {0:?}; this client knows \
         {EXPORTER_LABEL:?} only"
    )]
    OtherLabel(String),
}

impl InvalidExtension {
    fn wrong(member: &'static str, expected: &'static str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        Self::WrongType {
            member,
            expected,
            found,
        }
    }
}

const LIST: &str = "a list of names of methods";

/// In ProtoJSON, `null` means the same as a missing member.
fn member<'a>(params: Option<&'a HashMap<String, Value>>, name: &str) -> Option<&'a Value> {
    params?.get(name).filter(|value| !value.is_null())
}

fn method(value: &Value) -> Result<Box<str>, InvalidExtension> {
    match value {
        Value::String(method) => Ok(Box::from(&**method)),
        other => Err(InvalidExtension::wrong(
            "perRequestClaims[]",
            "the name of a method",
            other,
        )),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests;

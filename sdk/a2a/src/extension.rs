//! The session-binding extension of agent cards: how an agent announces that it verifies proofs, so
//! that a client sends one with the first request already.
//!
//! [`SessionBinding`] is what it says, for both sides: a server puts it into its card, a client
//! reads it from one. It is specified in the book's chapter on A2A. It proves nothing: a card is as
//! good as the connection that it came over, and a card without it takes nothing away from what an
//! access token demands.

use std::collections::{BTreeSet, HashMap};

use a2a::{AgentCard, AgentExtension};
use bowline_proof::EXPORTER_LABEL;
use bowline_transport::RequestBoundCalls;
use serde_json::Value;

/// The extension's URI: what stands in a card, and in `A2A-Extensions`. A name, not a page. Another
/// version of the extension has another one.
pub const SESSION_BINDING: &str = "https://github.com/bowline-dev/bowline/a2a/session-binding/v1";

/// The members of the extension's `params`.
const LABEL: &str = "exporterLabel";
const PER_REQUEST: &str = "perRequestClaims";

/// As much of a card's own text as an error shows, in characters.
const SHOWN: usize = 80;

/// What an agent says of session-binding proofs.
///
/// ```
/// use bowline_a2a::extension::SessionBinding;
///
/// # fn example(card: &mut a2a::AgentCard) {
/// let binding = SessionBinding::required().per_request_claims_for(["CancelTask"]);
/// card.capabilities.extensions.get_or_insert_default().push(binding.into());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBinding {
    required: bool,
    request_bound_calls: BTreeSet<Box<str>>,
}

impl SessionBinding {
    /// The agent refuses each request whose access token does not demand a proof, and each that
    /// comes without the proof (policy `Require`, RS-13).
    pub fn required() -> Self {
        Self {
            required: true,
            request_bound_calls: BTreeSet::new(),
        }
    }

    /// The agent verifies each proof that it gets; whether it needs one, the token decides (policy
    /// `Follow`, RS-13).
    pub fn supported() -> Self {
        Self {
            required: false,
            ..Self::required()
        }
    }

    /// Also, the proof of a request that calls one of these methods is to be for this request
    /// alone, with `htm`, `htu` and `jti` (RS-12). Methods are named as in JSON-RPC, whatever the
    /// binding: `CancelTask`.
    #[must_use]
    pub fn per_request_claims_for<'a>(
        mut self,
        methods: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.request_bound_calls
            .extend(methods.into_iter().map(Box::from));
        self
    }

    /// What a card says of session binding; `None` if it does not name the extension.
    ///
    /// Members of `params` that this version does not know are passed over, and so are methods that
    /// A2A does not have.
    ///
    /// # Errors
    /// The card names the extension, but what it says cannot be understood or met.
    pub fn of(card: &AgentCard) -> Result<Option<Self>, InvalidExtension> {
        let listed = card.capabilities.extensions.iter().flatten();
        let mut listed = listed.filter(|extension| extension.uri == SESSION_BINDING);
        match (listed.next(), listed.next()) {
            (None, _) => Ok(None),
            (Some(extension), None) => Self::read(extension).map(Some),
            // Which of them counts? Another reader may take the other.
            (Some(_), Some(_)) => Err(InvalidExtension::Twice),
        }
    }

    /// Whether the agent refuses what comes without a proof.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// The calls whose proof is to be for one request.
    pub fn request_bound_calls(&self) -> RequestBoundCalls {
        let methods = self.request_bound_calls.iter();
        methods.fold(RequestBoundCalls::none(), |claims, method| {
            claims.for_method(&**method)
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
                "Access tokens are bound to the mutual-TLS connection: each request carries a Session-Binding-Proof"
                    .to_owned(),
            ),
            required: Some(binding.required),
            params: Some(params),
        }
    }
}

/// What a card says of session binding, and nobody can follow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidExtension {
    /// The card names the extension more than once.
    #[error("the agent card names the session-binding extension more than once")]
    Twice,
    /// A member of the extension's `params` has another JSON type than it should have.
    #[error(
        "the session-binding extension's {member} should be {expected}, and the agent card has {found}"
    )]
    WrongType {
        /// The member.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The agent binds tokens to another exporter value than this client can compute (EX-1, TK-2).
    #[error(
        "the agent card binds tokens by the exporter label {0:?}; this client knows {EXPORTER_LABEL:?} only"
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

/// ProtoJSON's `null` says as little as a member that is not there.
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
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use a2a::{AgentCapabilities, AgentInterface};
    use bowline_transport::Call;
    use serde_json::json;

    use super::*;

    fn card(extensions: Value) -> AgentCard {
        let capabilities: AgentCapabilities =
            serde_json::from_value(json!({ "extensions": extensions })).unwrap();
        AgentCard {
            name: "x".to_owned(),
            description: String::new(),
            version: "1".to_owned(),
            supported_interfaces: vec![AgentInterface::new("https://a.example", "JSONRPC")],
            capabilities,
            default_input_modes: Vec::new(),
            default_output_modes: Vec::new(),
            skills: Vec::new(),
            provider: None,
            documentation_url: None,
            icon_url: None,
            security_schemes: None,
            security_requirements: None,
            signatures: None,
        }
    }

    fn read(extensions: Value) -> Result<Option<SessionBinding>, InvalidExtension> {
        SessionBinding::of(&card(extensions))
    }

    #[test]
    fn what_a_server_writes_a_client_reads() {
        for binding in [
            SessionBinding::required(),
            SessionBinding::supported(),
            SessionBinding::required().per_request_claims_for(["CancelTask", "SendMessage"]),
        ] {
            let written = serde_json::to_value(AgentExtension::from(binding.clone())).unwrap();
            assert_eq!(
                read(json!([{ "uri": "https://other.example/v1" }, written])),
                Ok(Some(binding))
            );
        }
    }

    #[test]
    fn the_extension_is_written_as_the_book_specifies_it() {
        let chapter = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/a2a.md");
        let chapter = std::fs::read_to_string(chapter).unwrap();
        let example = chapter
            .split("```json")
            .nth(1)
            .and_then(|rest| rest.split("```").next());
        let example: Value = serde_json::from_str(example.unwrap()).unwrap();
        let binding = SessionBinding::required().per_request_claims_for(["CancelTask"]);
        assert_eq!(
            serde_json::to_value(AgentExtension::from(binding)).unwrap(),
            example
        );
    }

    #[test]
    fn a_card_is_read_leniently() {
        let supported = Ok(Some(SessionBinding::supported()));
        for (params, expected) in [
            (json!(null), &supported),
            (json!({}), &supported),
            (
                json!({ "exporterLabel": null, "perRequestClaims": null }),
                &supported,
            ),
            (json!({ "perRequestClaims": [] }), &supported),
            (
                json!({ "exporterLabel": EXPORTER_LABEL, "newer": { "than": "this" } }),
                &supported,
            ),
        ] {
            assert_eq!(
                &read(json!([{ "uri": SESSION_BINDING, "params": params }])),
                expected
            );
        }
        for without in [
            json!(null),
            json!([]),
            json!([{ "uri": format!("{SESSION_BINDING}/") }]),
            json!([{ "uri": SESSION_BINDING.to_uppercase() }]),
            json!([{ "uri": "https://github.com/bowline-dev/bowline/a2a/session-binding/v2", "required": true }]),
        ] {
            assert_eq!(read(without.clone()), Ok(None), "{without}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_an_error_that_says_what() {
        for (params, said) in [
            (
                json!({ "exporterLabel": 7 }),
                "exporterLabel should be a string, and the agent card has a number",
            ),
            (
                json!({ "exporterLabel": "EXPORTER-x" }),
                "exporter label \"EXPORTER-x\"",
            ),
            (
                json!({ "perRequestClaims": true }),
                "perRequestClaims should be a list of names of methods",
            ),
            (json!({ "perRequestClaims": "CancelTask" }), "has a string"),
            (
                json!({ "perRequestClaims": ["CancelTask", {}] }),
                "perRequestClaims[] should be the name of a method",
            ),
        ] {
            for required in [true, false] {
                let extension =
                    json!({ "uri": SESSION_BINDING, "required": required, "params": params });
                let error = read(json!([extension])).unwrap_err().to_string();
                assert!(error.contains(said), "{params}: {error}");
            }
        }
        let twice =
            json!([{ "uri": SESSION_BINDING, "required": true }, { "uri": SESSION_BINDING }]);
        assert_eq!(read(twice), Err(InvalidExtension::Twice));
        let long =
            json!([{ "uri": SESSION_BINDING, "params": { "exporterLabel": "x".repeat(100_000) } }]);
        assert!(read(long).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn only_the_methods_that_a_card_names_get_proofs_of_their_own() {
        let claims = SessionBinding::required()
            .per_request_claims_for(["CancelTask"])
            .request_bound_calls();
        let covered = |method| {
            claims.cover(&Call {
                method,
                target: None,
                is_destructive: true,
            })
        };
        assert!(covered("CancelTask"));
        assert!(!covered("SendMessage"));
        assert!(!covered("canceltask"));
    }
}

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
    SessionBinding::from_card(&card(extensions))
}

#[test]
fn what_a_server_writes_a_client_reads() {
    for binding in [
        SessionBinding::required(),
        SessionBinding::supported(),
        SessionBinding::required().request_bound_for(["CancelTask", "SendMessage"]),
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
    let binding = SessionBinding::required().request_bound_for(["CancelTask"]);
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
        json!([{ "uri": format!("{SESSION_BINDING}2"), "required": true }]),
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
    let twice = json!([{ "uri": SESSION_BINDING, "required": true }, { "uri": SESSION_BINDING }]);
    assert_eq!(read(twice), Err(InvalidExtension::Duplicate));
    let long =
        json!([{ "uri": SESSION_BINDING, "params": { "exporterLabel": "x".repeat(100_000) } }]);
    assert!(read(long).unwrap_err().to_string().len() < 300);
}

#[test]
fn only_the_methods_that_a_card_names_get_proofs_of_their_own() {
    let claims = SessionBinding::required()
        .request_bound_for(["CancelTask"])
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

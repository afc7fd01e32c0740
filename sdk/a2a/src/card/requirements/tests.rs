use bowline_http_client::RequestBoundProof;
use serde_json::{Value, json};

use super::*;

const JSON_RPC: &str = "https://agent.example/rpc";

/// A card with these security requirements, and this extension if any. Its schemes are one of each
/// kind.
fn card(requirements: Value, extension: Option<SessionBinding>) -> AgentCard {
    let mut card: AgentCard = serde_json::from_value(json!({
        "name": "x",
        "description": "",
        "version": "1",
        "supportedInterfaces": [
            { "url": JSON_RPC, "protocolBinding": "JSONRPC", "protocolVersion": "1.0" },
        ],
        "capabilities": {},
        "defaultInputModes": [],
        "defaultOutputModes": [],
        "skills": [{
            "id": "s", "name": "s", "description": "", "tags": [],
            "securityRequirements": [{ "schemes": { "mtls": {}, "oauth2": {} } }]
        }],
        "securitySchemes": {
            "mtls": { "mtlsSecurityScheme": {} },
            "oauth2": { "oauth2SecurityScheme": { "flows": {
                "clientCredentials": { "tokenUrl": "https://as.example/token", "scopes": {} }
            } } },
            "oidc": { "openIdConnectSecurityScheme": { "openIdConnectUrl": "https://as.example" } },
            "bearer": { "httpAuthSecurityScheme": { "scheme": "bearer" } },
            "BEARER": { "httpAuthSecurityScheme": { "scheme": "BEARER" } },
            "dpop": { "httpAuthSecurityScheme": { "scheme": "DPoP" } },
            "basic": { "httpAuthSecurityScheme": { "scheme": "basic" } },
            "key": { "apiKeySecurityScheme": { "location": "header", "name": "x-key" } }
        },
        "securityRequirements": requirements
    }))
    .unwrap();
    if let Some(extension) = extension {
        card.capabilities.extensions = Some(vec![extension.into()]);
    }
    card
}

/// Alternatives of schemes that are all needed, without scopes.
fn any_of(alternatives: &[&[&str]]) -> Value {
    let all = |names: &&[&str]| {
        let schemes: serde_json::Map<_, _> = names
            .iter()
            .map(|name| (name.to_string(), json!({})))
            .collect();
        json!({ "schemes": schemes })
    };
    alternatives.iter().map(all).collect()
}

fn requirements(alternatives: &[&[&str]]) -> CardRequirements {
    CardRequirements::from_card(&card(any_of(alternatives), None)).unwrap()
}

fn over_tls() -> Uri {
    Uri::from_static(JSON_RPC)
}

#[test]
fn what_is_needed_is_what_every_alternative_needs() {
    for (alternatives, certificate, token) in [
        (&[][..], false, false),
        (&[&[][..]][..], false, false),
        (&[&["mtls"]], true, false),
        (&[&["oauth2"]], false, true),
        (&[&["oidc"]], false, true),
        (&[&["bearer"]], false, true),
        (&[&["BEARER"]], false, true),
        (&[&["dpop"]], false, true),
        (&[&["basic"]], false, false),
        (&[&["key"]], false, false),
        (&[&["no such scheme"]], false, false),
        (&[&["mtls", "oauth2"]], true, true),
        (&[&["mtls", "key"]], true, false),
        (&[&["mtls"], &["oauth2"]], false, false),
        (&[&["mtls", "oauth2"], &["oauth2"]], false, true),
        (&[&["mtls", "oauth2"], &["mtls"]], true, false),
        (&[&["mtls", "oauth2"], &["mtls", "oidc"]], true, true),
        (&[&["mtls", "oauth2"], &[]], false, false),
    ] {
        let requirements = requirements(alternatives);
        assert_eq!(
            (requirements.needs_certificate(), requirements.needs_token()),
            (certificate, token),
            "{alternatives:?}"
        );
    }
}

#[test]
fn scopes_make_no_difference_in_either_of_their_shapes() {
    for requirements in [
        json!([{ "schemes": { "oauth2": { "list": ["a", "b"] } } }]),
        json!([{ "schemes": { "oauth2": {} } }]),
        json!([{ "oauth2": ["a"] }]),
    ] {
        assert!(
            CardRequirements::from_card(&card(requirements, None))
                .unwrap()
                .needs_token()
        );
    }
}

#[test]
fn a_certificate_that_is_demanded_and_not_there_is_told_before_anything_is_sent() {
    for (alternatives, with, without) in [
        (&[][..], Ok(false), Ok(false)),
        (&[&["mtls"][..]][..], Ok(false), Err(())),
        (&[&["oauth2"]], Ok(true), Ok(true)),
        (&[&["mtls", "oauth2"]], Ok(true), Err(())),
        (&[&["mtls"], &["oauth2"]], Ok(false), Ok(true)),
        (&[&["mtls", "oauth2"], &["key"]], Ok(false), Ok(false)),
        (&[&["mtls", "oauth2"], &["oidc"]], Ok(true), Ok(true)),
    ] {
        let requirements = requirements(alternatives);
        for (has_certificate, expected) in [(true, with), (false, without)] {
            let met = requirements.resolve(&over_tls(), has_certificate);
            // Whether a call without a token is let go tells whether one is needed.
            let needs_token = met.map(|terms| terms.check_token(false).is_err());
            assert_eq!(
                needs_token.clone().map_err(drop),
                expected,
                "{alternatives:?} {has_certificate}"
            );
            if let Err(failure) = needs_token {
                assert_eq!(failure.kind(), ErrorKind::Configuration);
                assert!(
                    failure
                        .to_string()
                        .contains("give it one (Builder::identity)"),
                    "{failure}"
                );
                assert!(!failure.may_have_been_processed());
            }
        }
    }
}

#[test]
fn a_token_that_is_demanded_and_not_there_is_told_before_the_call_is_sent() {
    let terms = requirements(&[&["oauth2"]])
        .resolve(&over_tls(), true)
        .unwrap();
    assert_eq!(terms.check_token(true), Ok(()));
    let failure = terms.check_token(false).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Configuration);
    assert!(
        failure.to_string().contains("Transports::token"),
        "{failure}"
    );
    assert_eq!(
        requirements(&[])
            .resolve(&over_tls(), true)
            .unwrap()
            .check_token(false),
        Ok(())
    );
}

#[test]
fn a_plaintext_interface_meets_no_demand_for_tls() {
    for url in ["http://agent.example/rpc", "HTTP://agent.example/rpc"] {
        let plaintext = Uri::from_static(url);
        for requirements in [
            requirements(&[&["mtls"]]),
            CardRequirements::from_card(&card(any_of(&[]), Some(SessionBinding::required())))
                .unwrap(),
        ] {
            let failure = requirements.resolve(&plaintext, true).unwrap_err();
            assert_eq!(failure.kind(), ErrorKind::Configuration);
            assert!(failure.to_string().contains("is plaintext"), "{failure}");
        }
        // What may be, needs not be.
        let supported =
            CardRequirements::from_card(&card(any_of(&[]), Some(SessionBinding::supported())))
                .unwrap();
        assert_eq!(
            supported.resolve(&plaintext, true),
            Ok(CallRequirements::default())
        );
        assert_eq!(
            requirements(&[&["mtls"], &["key"]]).resolve(&plaintext, true),
            Ok(CallRequirements::default())
        );
    }
}

#[test]
fn session_binding_that_is_required_takes_a_certificate_and_a_token_whatever_the_schemes_say() {
    let required = Some(SessionBinding::required());
    for alternatives in [&[][..], &[&["key"][..]], &[&["oauth2"], &["mtls"]], &[&[]]] {
        let requirements =
            CardRequirements::from_card(&card(any_of(alternatives), required.clone())).unwrap();
        assert!(
            requirements.needs_certificate() && requirements.needs_token(),
            "{alternatives:?}"
        );
        let failure = requirements.resolve(&over_tls(), false).unwrap_err();
        assert!(
            failure
                .to_string()
                .contains("bound to a mutual-TLS connection"),
            "{failure}"
        );
        assert!(
            requirements
                .resolve(&over_tls(), true)
                .unwrap()
                .check_token(false)
                .is_err()
        );
    }
}

#[test]
fn where_session_binding_is_announced_every_token_is_proved_from_the_first_request_on() {
    let methods = ["CancelTask"];
    for binding in [SessionBinding::required(), SessionBinding::supported()] {
        let binding = binding.request_bound_for(methods);
        let requirements =
            CardRequirements::from_card(&card(any_of(&[&["oauth2"]]), Some(binding.clone())))
                .unwrap();
        assert_eq!(requirements.session_binding(), Some(&binding));
        let terms = requirements.resolve(&over_tls(), true).unwrap();
        assert_eq!(terms.extension(), Some(SESSION_BINDING));
        assert_eq!(marks(&terms, "SendMessage"), (true, false));
        assert_eq!(marks(&terms, "CancelTask"), (true, true));
    }
}

#[test]
fn session_binding_that_is_only_offered_is_not_taken_by_a_client_that_cannot() {
    let supported = SessionBinding::supported().request_bound_for(["CancelTask"]);
    let requirements =
        CardRequirements::from_card(&card(any_of(&[&["oauth2"]]), Some(supported))).unwrap();
    let terms = requirements.resolve(&over_tls(), false).unwrap();
    assert_eq!(terms.extension(), None);
    assert_eq!(marks(&terms, "CancelTask"), (false, false));
    assert!(
        terms.check_token(false).is_err(),
        "the token is demanded all the same"
    );
}

/// What a card leaves out, it does not forbid.
#[test]
fn a_card_that_says_nothing_takes_no_mark_away() {
    let terms = requirements(&[]).resolve(&over_tls(), true).unwrap();
    assert_eq!(terms, CallRequirements::default());
    assert_eq!(terms.extension(), None);
    let mut extensions = Extensions::new();
    extensions.insert(ProofRequired);
    extensions.insert(RequestBoundProof);
    terms.apply_to("SendMessage", &mut extensions);
    assert_eq!(extensions.len(), 2);
}

#[test]
fn a_card_whose_extension_cannot_be_followed_is_no_card_to_go_by() {
    let mut card = card(any_of(&[]), Some(SessionBinding::supported()));
    let extension = &mut card.capabilities.extensions.as_mut().unwrap()[0];
    extension.params = Some([("exporterLabel".to_owned(), json!("EXPORTER-other"))].into());
    let failure = CardRequirements::from_card(&card).unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::NotA2a);
    assert!(!failure.may_have_been_processed());
    assert!(failure.to_string().contains("EXPORTER-other"), "{failure}");
}

/// Whether a call is proved, and by a proof of its own.
fn marks(terms: &CallRequirements, method: &str) -> (bool, bool) {
    let mut extensions = Extensions::new();
    terms.apply_to(method, &mut extensions);
    let (proof, own) = (
        extensions.get::<ProofRequired>(),
        extensions.get::<RequestBoundProof>(),
    );
    (proof.is_some(), own.is_some())
}

//! What a card demands decides how its agent is called, before the first refusal; and what a card
//! leaves out weakens nothing.

use std::sync::{Arc, Mutex};

use a2a::{
    AgentCard, CancelTaskRequest, MutualTlsSecurityScheme, OpenIdConnectSecurityScheme,
    SecurityScheme,
};
use a2a_client::ServiceParams;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bowline_a2a::extension::{SESSION_BINDING, SessionBinding};
use bowline_a2a::{Error, ErrorKind, Transports};
use bowline_http_client::{AccessToken, Builder, Client, Identity, Thumbprint, Trust};
use bowline_proof::{EXPORTER_LABEL, PROOF_HEADER};
use bowline_server::{
    AcceptPolicy, BindingLayer, RequireRequestBound, TokenError, TokenValidator, ValidToken,
};
use bowline_testkit::a2a as peer;
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use http::HeaderMap;
use serde_json::json;

use crate::binding::{BINDINGS, say};
use crate::soon;

#[tokio::test]
async fn where_the_card_announces_it_an_opaque_token_is_proved_with_the_first_call() {
    for binding in BINDINGS {
        for (announced, refused) in [(true, 0), (false, 1)] {
            let world = World::new();
            let server = world.agent();
            let mut card = peer::card(&server.origin());
            if announced {
                announce(&mut card, SessionBinding::supported());
            }
            let client = world.client();
            let transports = transports(&client, &server).token(opaque());
            let agent = binding.create(&transports, &card).await.unwrap();
            for _ in 0..5 {
                assert_eq!(
                    say(&*agent, &ServiceParams::new(), "hello").await.unwrap(),
                    "hello"
                );
            }
            let (stats, seen) = (client.stats(), world.seen.all());
            assert_eq!(stats.totals.signatures(), 1, "{binding:?}, {announced}");
            assert_eq!(
                seen.len(),
                5 + refused,
                "{binding:?}, {announced}: refused and sent again"
            );
            assert_eq!(seen[0].contains_key(PROOF_HEADER), announced);
            let named = seen
                .iter()
                .filter(|fields| fields.contains_key("a2a-extensions"));
            assert_eq!(named.count(), if announced { 5 } else { 0 }, "{binding:?}");
        }
    }
}

#[tokio::test]
async fn the_extension_is_named_besides_those_of_the_caller() {
    for binding in BINDINGS {
        let world = World::new();
        let server = world.agent();
        let mut card = peer::card(&server.origin());
        announce(&mut card, SessionBinding::required());
        let transports = transports(&world.client(), &server).token(opaque());
        let agent = binding.create(&transports, &card).await.unwrap();
        let (x, y) = ("https://x.example/v1", "https://y.example/v1");
        for (given, expected) in [
            (
                vec![format!("{x}, {y}")],
                format!("{x},{y},{SESSION_BINDING}"),
            ),
            (
                vec![x.to_owned(), y.to_owned()],
                format!("{x},{y},{SESSION_BINDING}"),
            ),
            (
                vec![format!("{SESSION_BINDING},{x}")],
                format!("{x},{SESSION_BINDING}"),
            ),
            (vec![String::new()], SESSION_BINDING.to_owned()),
        ] {
            let params = ServiceParams::from([("A2A-Extensions".to_owned(), given)]);
            say(&*agent, &params, "hello").await.unwrap();
            let seen = world.seen.all();
            let fields: Vec<_> = seen
                .last()
                .unwrap()
                .get_all("a2a-extensions")
                .iter()
                .collect();
            assert_eq!(fields, [expected.as_str()], "{binding:?}");
        }
    }
}

/// The token decides, whatever a card leaves out: neither a thief nor a forgetful agent can make a
/// proof unnecessary.
#[tokio::test]
async fn a_card_without_the_extension_excuses_no_token_from_its_proof() {
    for binding in BINDINGS {
        let world = World::new();
        let server = world.agent();
        let transports = transports(&world.client(), &server).token(world.session_bound());
        let agent = binding
            .create(&transports, &peer::card(&server.origin()))
            .await
            .unwrap();
        say(&*agent, &ServiceParams::new(), "hello").await.unwrap();
        let seen = world.seen.all();
        assert_eq!(seen.len(), 1, "{binding:?}");
        assert!(seen[0].contains_key(PROOF_HEADER), "{binding:?}");
    }
}

#[tokio::test]
async fn the_card_says_which_calls_have_a_proof_of_their_own() {
    for binding in BINDINGS {
        let world = World::new();
        // What a server can see without reading the body: of JSON-RPC, nothing.
        let server = world.agent_with(|layer| {
            let cancels = |path: &str| path.ends_with(":cancel") || path.ends_with("/CancelTask");
            layer.require_request_bound(RequireRequestBound::when(move |request| {
                cancels(request.uri.path())
            }))
        });
        let mut card = peer::card(&server.origin());
        announce(
            &mut card,
            SessionBinding::required().request_bound_for(["CancelTask"]),
        );
        let client = world.client();
        let transports = transports(&client, &server).token(opaque());
        let agent = binding.create(&transports, &card).await.unwrap();
        for _ in 0..2 {
            say(&*agent, &ServiceParams::new(), "hello").await.unwrap();
            let cancel = CancelTaskRequest {
                id: "no-such-task".to_owned(),
                metadata: None,
                tenant: None,
            };
            let error = soon(agent.cancel_task(&ServiceParams::new(), &cancel))
                .await
                .unwrap_err();
            assert_eq!(
                error.code,
                a2a::error_code::TASK_NOT_FOUND,
                "{binding:?}: {error}"
            );
        }
        let totals = client.stats().totals;
        assert_eq!(
            (totals.signatures(), totals.request_bound),
            (3, 2),
            "{binding:?}"
        );
        assert_eq!(totals.refused, 0, "{binding:?}");
    }
}

#[tokio::test]
async fn what_the_client_cannot_show_is_told_before_anything_is_sent() {
    for binding in BINDINGS {
        let world = World::new();
        let server = world.agent();
        let without = world.builder().build().unwrap();
        let (card, mut bound) = (demanding(&server.origin()), peer::card(&server.origin()));
        announce(&mut bound, SessionBinding::required());
        for card in [&card, &bound] {
            let transports = transports(&without, &server).token(opaque());
            let error = binding.create(&transports, card).await.err().unwrap();
            let failure = Error::from_a2a(&error).unwrap();
            assert_eq!(failure.kind(), ErrorKind::Configuration);
            assert!(
                failure.to_string().contains("Builder::identity"),
                "{failure}"
            );

            let transports = self::transports(&world.client(), &server);
            let agent = binding.create(&transports, card).await.unwrap();
            let error = say(&*agent, &ServiceParams::new(), "hello")
                .await
                .unwrap_err();
            let failure = Error::from_a2a(&error).unwrap();
            assert_eq!(failure.kind(), ErrorKind::Configuration, "{failure}");
            assert!(
                failure.to_string().contains("Transports::token"),
                "{failure}"
            );
            assert!(!failure.may_have_been_processed());
        }
        assert_eq!(server.counts().opened, 0, "{binding:?}");

        // A call may bring its own token, as an interceptor has it.
        let transports = transports(&world.client(), &server);
        let agent = binding.create(&transports, &bound).await.unwrap();
        let own = format!("Bearer {}", opaque().secret());
        let params = ServiceParams::from([("Authorization".to_owned(), vec![own])]);
        assert_eq!(say(&*agent, &params, "hello").await.unwrap(), "hello");
        assert_eq!(
            world.seen.all().len(),
            1,
            "{binding:?}: proved with the first request"
        );
    }
}

#[tokio::test]
async fn a_card_whose_demand_cannot_be_understood_is_not_guessed_at() {
    for binding in BINDINGS {
        let world = World::new();
        let server = world.agent();
        let mut card = peer::card(&server.origin());
        announce(&mut card, SessionBinding::supported());
        let extension = &mut card.capabilities.extensions.as_mut().unwrap()[0];
        extension.params = Some([("perRequestClaims".to_owned(), json!("all"))].into());
        let transports = transports(&world.client(), &server).token(opaque());
        let error = binding.create(&transports, &card).await.err().unwrap();
        let failure = Error::from_a2a(&error).unwrap();
        assert_eq!(failure.kind(), ErrorKind::NotA2a);
        assert!(
            failure
                .to_string()
                .contains("perRequestClaims should be a list"),
            "{failure}"
        );
        assert_eq!(server.counts().opened, 0);
    }
}

fn announce(card: &mut AgentCard, binding: SessionBinding) {
    card.capabilities.extensions = Some(vec![binding.into()]);
}

/// A card that demands a certificate and a token, and says nothing of proofs.
fn demanding(origin: &str) -> AgentCard {
    let mut card = peer::card(origin);
    let mtls = MutualTlsSecurityScheme { description: None };
    let oidc = OpenIdConnectSecurityScheme {
        open_id_connect_url: "https://as.example".to_owned(),
        description: None,
    };
    let schemes = [
        ("mtls".to_owned(), SecurityScheme::MutualTls(mtls)),
        ("oidc".to_owned(), SecurityScheme::OpenIdConnect(oidc)),
    ];
    card.security_schemes = Some(schemes.into());
    let both = [
        ("mtls".to_owned(), Vec::new()),
        ("oidc".to_owned(), Vec::new()),
    ];
    card.security_requirements = Some(vec![both.into()]);
    card
}

fn opaque() -> AccessToken {
    AccessToken::new("opaque-token").unwrap()
}

fn transports(client: &Client, server: &CyclingServer) -> Transports {
    Transports::new(client.clone(), &server.origin()).unwrap()
}

struct World {
    pki: Pki,
    leaf: Leaf,
    authority: Authority,
    seen: TaskHistory,
}

impl World {
    fn new() -> Self {
        let pki = Pki::new();
        Self {
            leaf: pki.client("caller", KeyKind::P256),
            authority: Authority::start(&pki, AuthorityOptions::default()),
            pki,
            seen: TaskHistory::default(),
        }
    }

    fn builder(&self) -> Builder {
        Client::builder().trust(Trust::from_der([self.pki.ca_der().clone()]).unwrap())
    }

    fn client(&self) -> Client {
        let identity = Identity::new(self.leaf.chain(), self.leaf.signing_key()).unwrap();
        self.builder().identity(identity).build().unwrap()
    }

    fn session_bound(&self) -> AccessToken {
        let request = TokenRequest::session_bound("caller", self.leaf.thumbprint());
        AccessToken::new(self.authority.issue(&request)).unwrap()
    }

    fn agent(&self) -> CyclingServer {
        self.agent_with(|layer| layer)
    }

    /// The official server, whose verifier takes any token for a session-bound one of the caller's.
    fn agent_with(
        &self,
        configure: impl FnOnce(BindingLayer<Bound>) -> BindingLayer<Bound>,
    ) -> CyclingServer {
        CyclingServer::start_with(&self.pki, CyclingOptions::default(), |origin| {
            let verifier = BindingLayer::new(Bound(self.leaf.thumbprint()))
                .origins([origin.parse().unwrap()])
                .policy(AcceptPolicy::RequireSession);
            peer::agent(peer::Echo::default(), peer::card(origin))
                .layer(configure(verifier))
                .layer(from_fn_with_state(self.seen.clone(), see))
        })
    }
}

/// Believes that every token is session-bound to this certificate.
struct Bound(Thumbprint);

impl TokenValidator for Bound {
    async fn validate(&self, _: &AccessToken) -> Result<ValidToken, TokenError> {
        let cnf = json!({ "x5t#S256": self.0.to_string(), "tls_exp": EXPORTER_LABEL });
        Ok(ValidToken::new(json!({ "cnf": cnf })))
    }
}

/// Header fields of the requests that a server has seen.
#[derive(Clone, Default)]
struct TaskHistory(Arc<Mutex<Vec<HeaderMap>>>);

impl TaskHistory {
    fn all(&self) -> Vec<HeaderMap> {
        self.0.lock().unwrap().clone()
    }
}

async fn see(State(seen): State<TaskHistory>, request: Request, next: Next) -> Response {
    seen.0.lock().unwrap().push(request.headers().clone());
    next.run(request).await
}

//! Two agents in a row: A calls B, and B, on A's behalf, calls C (RFC 8693). Each hop has a
//! connection, an exporter value and a proof of its own, and the token of one hop is of no use at
//! the other (T5).

use std::sync::{Arc, Mutex};

use a2a::{A2AError, AgentCard, Message, Part, Role, StreamResponse};
use a2a_client::{ServiceParams, Transport};
use a2a_server::{AgentExecutor, ExecutorContext};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use bowline_a2a::extension::SessionBinding;
use bowline_a2a::{Error, ErrorKind, Transports};
use bowline_http_client::bind::{
    Answered, Attachment, Bind, BindConnection, Bound, Learned, RequestFacts,
};
use bowline_http_client::{
    AccessToken, BindingUsed, Client, CloseReason, Identity, Thumbprint, TlsFacts, Trust,
};
use bowline_proof::{PROOF_HEADER, ProofClaims, ProofKey};
use bowline_server::{
    AcceptPolicy, BindingLayer, ConnectionFacts, ExpectedClaims, Jwks, JwtValidator,
    VerifiedBinding,
};
use bowline_testkit::a2a as peer;
use bowline_testkit::authority::{self, Authority, AuthorityOptions};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_token::{
    AuthorizationServer, Builder, ClientAuthentication, Exchanges, OAuth,
    RequiredBinding as AskFor, TokenSource,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::UnixTime;

use crate::binding::{BINDINGS, Binding, say};

/// What B and C are called in tokens (`aud`), wherever they listen.
const B: &str = "https://b.example";
const C: &str = "https://c.example";

const CALLER: HeaderName = HeaderName::from_static("x-caller");

#[tokio::test]
async fn each_hop_has_its_own_connection_exporter_certificate_and_signature() {
    for binding in BINDINGS {
        let world = World::new();
        let c = world.agent(C, peer_like(Clerk));
        let courier = Courier::new(&world, binding, &c);
        let b_client = courier.client.clone();
        let b = world.agent(B, peer_like(courier));

        let a_client = world.client(&world.a);
        let transports = b.transports(a_client.clone()).source(world.tokens_of_a());
        let a = b.call(binding, &transports).await;
        for _ in 0..3 {
            assert_eq!(
                say(&*a, &ServiceParams::new(), "hello").await.unwrap(),
                "for a, by b, session-bound",
                "{binding:?}"
            );
        }

        let (at_b, at_c) = (b.seen.all(), c.seen.all());
        assert_eq!((at_b.len(), at_c.len()), (3, 3), "{binding:?}");
        for seen in [&at_b, &at_c] {
            assert_eq!(seen[0].facts.id(), seen[2].facts.id(), "one connection");
            assert_eq!(seen[0].proof(), seen[2].proof(), "one proof");
        }
        let (first, second) = (&at_b[0], &at_c[0]);
        assert_eq!(first.certificate(), world.a.thumbprint());
        assert_eq!(second.certificate(), world.b.thumbprint());
        assert!(!first.facts.exporter().matches(second.facts.exporter()));
        assert_ne!(first.proof(), second.proof());
        assert_ne!(first.token(), second.token());
        // One signature a hop, and none for the token requests between them.
        for client in [&a_client, &b_client] {
            let totals = client.stats().totals;
            assert_eq!((totals.signatures(), totals.refused), (1, 0), "{binding:?}");
        }
        assert_eq!((b.server.counts().opened, c.server.counts().opened), (1, 1));
    }
}

/// T5. Each thief has a valid proof by the thief's own certificate, for their own connection: there
/// is no more that they could have.
#[tokio::test]
async fn the_token_of_one_hop_is_refused_at_the_next_whoever_brings_it() {
    for binding in BINDINGS {
        let world = World::new();
        let (b, c) = (
            world.agent(B, peer_like(Clerk)),
            world.agent(C, peer_like(Clerk)),
        );
        let tokens = world.tokens_of_a();
        let transports = b.transports(world.client(&world.a)).source(tokens.clone());
        let a = b.call(binding, &transports).await;
        assert_eq!(
            say(&*a, &ServiceParams::new(), "hello").await.unwrap(),
            "for a, by nobody, session-bound"
        );
        let stolen = tokens.token().await.unwrap().access_token().clone();

        // An agent that takes B's tokens for its own shows what is left without RS-2.
        let careless = world.agent(B, peer_like(Clerk));
        for (who, leaf, at_c, at_careless) in [
            ("B, who received it", &world.b, "RS-2", Some("RS-3")),
            ("a third party", &world.thief, "RS-2", Some("RS-3")),
            ("A itself", &world.a, "RS-2", None),
        ] {
            let refused = c.attempt(binding, &world, leaf, &stolen).await;
            assert_eq!(refused.as_deref(), Some(at_c), "{who} at C, {binding:?}");
            let refused = careless.attempt(binding, &world, leaf, &stolen).await;
            assert_eq!(
                refused.as_deref(),
                at_careless,
                "{who} at an agent that does not look at `aud`, {binding:?}"
            );
        }
        // Where it belongs, nobody but A can use it either.
        for (who, leaf, refused_by) in [
            ("B itself", &world.b, Some("RS-3")),
            ("a third party", &world.thief, Some("RS-3")),
            ("A", &world.a, None),
        ] {
            assert_eq!(
                b.attempt(binding, &world, leaf, &stolen).await.as_deref(),
                refused_by,
                "{who} at B"
            );
        }
    }
}

/// What B's own client does about A's token: it is bound to another certificate (CL-8).
#[tokio::test]
async fn a_bowline_client_does_not_pass_its_callers_token_on() {
    let world = World::new();
    let c = world.agent(C, peer_like(Clerk));
    let stolen = world
        .tokens_of_a()
        .token()
        .await
        .unwrap()
        .access_token()
        .clone();
    for binding in BINDINGS {
        let transports = c.transports(world.client(&world.b)).token(stolen.clone());
        let agent = c.call(binding, &transports).await;
        let failure = Error::from_a2a(
            &say(&*agent, &ServiceParams::new(), "hello")
                .await
                .unwrap_err(),
        )
        .unwrap();
        assert_eq!(failure.kind(), ErrorKind::Configuration, "{failure}");
        assert!(!failure.may_have_been_processed());
    }
    assert_eq!(c.seen.all().len(), 0);
}

/// Who takes part, and their authorization server.
struct World {
    pki: Pki,
    authority: Authority,
    a: Leaf,
    b: Leaf,
    thief: Leaf,
}

impl World {
    fn new() -> Self {
        let pki = Pki::new();
        let [a, b, thief] = ["a", "b", "thief"].map(|name| pki.client(name, KeyKind::P256));
        // A token with `aud` B is addressed to the client `b`, which may exchange it (AS-2).
        let client_b = authority::Client {
            resources: vec![B.to_owned()],
            ..authority::Client::new("b")
        };
        let options = AuthorityOptions {
            clients: vec![client_b],
            ..AuthorityOptions::default()
        };
        Self {
            authority: Authority::start(&pki, options),
            pki,
            a,
            b,
            thief,
        }
    }

    fn client(&self, leaf: &Leaf) -> Client {
        self.builder(leaf).build().unwrap()
    }

    fn builder(&self, leaf: &Leaf) -> bowline_http_client::Builder {
        Client::builder()
            .identity(Identity::new(leaf.chain(), leaf.signing_key()).unwrap())
            .trust(Trust::from_der([self.pki.ca_der().clone()]).unwrap())
    }

    /// Token requests of a client's own, with this certificate.
    fn token_requests(&self, client_id: &str, leaf: &Leaf) -> Builder {
        let server = AuthorizationServer::issuer(self.authority.issuer());
        OAuth::builder(
            self.client(leaf),
            server,
            ClientAuthentication::tls(client_id),
        )
        .bound(AskFor::Session)
    }

    fn tokens_of_a(&self) -> OAuth {
        self.token_requests("a", &self.a)
            .resource(B)
            .build()
            .unwrap()
    }

    /// An agent that takes session-bound tokens for `audience`, and says so in its card.
    fn agent(&self, audience: &str, executor: impl FnOnce(AgentCard) -> axum::Router) -> Agent {
        let keys = Jwks::document(self.authority.jwks().to_string()).unwrap();
        let tokens = JwtValidator::builder(
            ExpectedClaims::new(audience).issuer(self.authority.issuer()),
            keys,
        )
        .build();
        let (seen, mut card) = (TaskHistory::default(), None);
        let server = CyclingServer::start_with(&self.pki, CyclingOptions::default(), |origin| {
            let mut told = peer::card(origin);
            told.capabilities.extensions = Some(vec![SessionBinding::required().into()]);
            card = Some(told.clone());
            let verifier = BindingLayer::new(tokens)
                .origins([origin.parse().unwrap()])
                .policy(AcceptPolicy::RequireSession);
            executor(told)
                .layer(from_fn(introduce))
                .layer(verifier)
                .layer(from_fn_with_state(seen.clone(), see))
        });
        let card = card.unwrap();
        Agent { server, card, seen }
    }
}

/// The official server with this executor.
fn peer_like(executor: impl AgentExecutor) -> impl FnOnce(AgentCard) -> axum::Router {
    |card| peer::agent(executor, card)
}

/// An agent that listens.
struct Agent {
    server: CyclingServer,
    card: AgentCard,
    seen: TaskHistory,
}

impl Agent {
    fn transports(&self, client: Client) -> Transports {
        Transports::new(client, &self.server.origin()).unwrap()
    }

    async fn call(&self, binding: Binding, transports: &Transports) -> Box<dyn Transport> {
        binding.create(transports, &self.card).await.unwrap()
    }

    /// Presents a stolen token with a valid proof by `leaf`, and tells which check refuses, if one
    /// does.
    async fn attempt(
        &self,
        binding: Binding,
        world: &World,
        leaf: &Leaf,
        stolen: &AccessToken,
    ) -> Option<String> {
        let forger: Arc<dyn Bind> = Arc::new(Forger::new(leaf, stolen));
        let client = world.builder(leaf).bind(forger).build().unwrap();
        // The client does not know of the token, so that it cannot refuse to send it; nor does the
        // card ask for one.
        let card = peer::card(&self.server.origin());
        let transports = self.transports(client);
        let agent = binding.create(&transports, &card).await.unwrap();
        let error = say(&*agent, &ServiceParams::new(), "hello").await.err()?;
        let failure = Error::from_a2a(&error).unwrap();
        assert_eq!(failure.kind(), ErrorKind::Unauthorized, "{failure}");
        let challenge = failure.www_authenticate().concat();
        let at = challenge.find("RS-").expect(&challenge);
        Some(challenge[at..].split(':').next().unwrap().to_owned())
    }
}

/// Says for whom it is called, and by whom (RFC 8693 §4.1).
struct Clerk;

impl AgentExecutor for Clerk {
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        answer(Ok(context.service_params[CALLER.as_str()].concat()))
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

/// B: has its caller's token exchanged, and passes C's answer back. The verifier in front of it has
/// seen to it that the token came over its owner's connection: the authorization server cannot
/// (AS-3).
struct Courier {
    client: Client,
    exchanges: Arc<Exchanges>,
    next: Transports,
    card: AgentCard,
    binding: Binding,
}

impl Courier {
    fn new(world: &World, binding: Binding, next: &Agent) -> Self {
        let client = world.client(&world.b);
        let exchanges = Exchanges::new(world.token_requests("b", &world.b).resource(C)).unwrap();
        Self {
            next: next.transports(client.clone()),
            card: next.card.clone(),
            exchanges: Arc::new(exchanges),
            client,
            binding,
        }
    }
}

impl AgentExecutor for Courier {
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let (exchanges, next, card, binding) = (
            self.exchanges.clone(),
            self.next.clone(),
            self.card.clone(),
            self.binding,
        );
        let call = async move {
            let authorization: HeaderValue = context.service_params[AUTHORIZATION.as_str()]
                .concat()
                .parse()
                .unwrap();
            let subject = AccessToken::from_authorization(&authorization).unwrap();
            let next = next.source(exchanges.for_token(&subject).unwrap());
            let agent = binding.create(&next, &card).await?;
            say(&*agent, &ServiceParams::new(), "hello").await
        };
        stream::once(call).flat_map(answer).boxed()
    }

    fn cancel(&self, _: ExecutorContext) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        stream::empty().boxed()
    }
}

fn answer(said: Result<String, A2AError>) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
    let message =
        said.map(|text| StreamResponse::Message(Message::new(Role::Agent, vec![Part::text(text)])));
    stream::iter([message]).boxed()
}

/// Tells the executor what the verifier knows.
async fn introduce(mut request: Request, next: Next) -> Response {
    let caller = request
        .extensions()
        .get::<VerifiedBinding>()
        .map(|binding| {
            let claims = binding.claims();
            let name = |claim: &serde_json::Value| claim.as_str().unwrap_or("nobody").to_owned();
            let (subject, actor) = (name(&claims["sub"]), name(&claims["act"]["sub"]));
            format!(
                "for {subject}, by {actor}, {}-bound",
                binding.class().name()
            )
        });
    let caller = caller.unwrap_or_default().parse().unwrap();
    request.headers_mut().insert(CALLER, caller);
    next.run(request).await
}

/// Requests as a server has seen them.
#[derive(Clone, Default)]
struct TaskHistory(Arc<Mutex<Vec<Sight>>>);

#[derive(Clone)]
struct Sight {
    facts: Arc<ConnectionFacts>,
    fields: HeaderMap,
}

impl TaskHistory {
    fn all(&self) -> Vec<Sight> {
        self.0.lock().unwrap().clone()
    }
}

impl Sight {
    fn certificate(&self) -> Thumbprint {
        self.facts.certificate().unwrap().thumbprint()
    }

    fn proof(&self) -> &HeaderValue {
        &self.fields[PROOF_HEADER]
    }

    fn token(&self) -> &HeaderValue {
        &self.fields[AUTHORIZATION]
    }
}

async fn see(State(seen): State<TaskHistory>, request: Request, next: Next) -> Response {
    let sight = Sight {
        facts: request
            .extensions()
            .get::<Arc<ConnectionFacts>>()
            .unwrap()
            .clone(),
        fields: request.headers().clone(),
    };
    seen.0.lock().unwrap().push(sight);
    next.run(request).await
}

/// Sends a stolen token, with a proof for the thief's own connection by the thief's own key.
#[derive(Clone)]
struct Forger(Arc<(ProofKey, AccessToken)>);

impl Forger {
    fn new(leaf: &Leaf, stolen: &AccessToken) -> Self {
        let key = ProofKey::new(leaf.certificate(), leaf.signing_key()).unwrap();
        Self(Arc::new((key, stolen.clone())))
    }
}

impl Bind for Forger {
    fn open(&self, facts: &Arc<bowline_http_client::ConnectionFacts>) -> Arc<dyn BindConnection> {
        let (key, token) = &*self.0;
        let claims = ProofClaims {
            token: token.hash(),
            exporter: facts.tls().map(TlsFacts::exporter).unwrap(),
            issued_at: UnixTime::now(),
            request: None,
        };
        Arc::new(Forged {
            proof: key.mint(&claims).unwrap().header_value(),
            authorization: token.authorization().clone(),
        })
    }
}

struct Forged {
    proof: HeaderValue,
    authorization: HeaderValue,
}

impl BindConnection for Forged {
    fn bind(&self, _: &RequestFacts<'_>) -> Result<Bound, bowline_http_client::Error> {
        let value = self.proof.clone();
        let mut attachment = Attachment::new(PROOF_HEADER, value, BindingUsed::Session);
        attachment.authorization = Some(self.authorization.clone());
        Ok(Bound::Attached(attachment))
    }

    fn learn(&self, _: &Answered<'_>) -> Learned {
        Learned::Nothing
    }

    fn closed(&self, _: CloseReason) {}
}

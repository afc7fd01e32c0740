//! An A2A agent on the official server crate behind bowline's verifier: three bindings on one port,
//! a card that says how to call it, and attackers whom the layer refuses.
//!
//!     cargo run -p bowline-examples --bin a2a_agent
//!
//! needs nothing else: it makes the certificates and the authorization server itself
//! (`bowline-testkit`), all on loopback. What a real agent keeps of it is
//! [`serve_agent`], [`card`] and [`WhoAmI`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::collections::HashMap;
use std::sync::Arc;

use a2a::{
    A2AError, AgentCapabilities, AgentCard, AgentInterface, AgentSkill, ClientCredentialsOAuthFlow,
    Message, MutualTlsSecurityScheme, OAuth2SecurityScheme, OAuthFlows, Part, Role, SecurityScheme,
    SendMessageRequest, SendMessageResponse, StreamResponse,
};
use a2a_client::{A2AClient, TransportFactory};
use a2a_grpc::GrpcHandler;
use a2a_pb::proto::a2a_service_server::A2aServiceServer;
use a2a_server::agent_card::agent_card_router;
use a2a_server::jsonrpc::jsonrpc_router;
use a2a_server::rest::rest_router;
use a2a_server::{
    AgentExecutor, DefaultRequestHandler, ExecutorContext, InMemoryTaskStore, StaticAgentCard,
    WELL_KNOWN_AGENT_CARD_PATH,
};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bowline_a2a::Transports;
use bowline_a2a::card::Cards;
use bowline_a2a::extension::SessionBinding;
use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, JwksUrl, JwtValidator,
    Listener, ServeOptions, ServerTls, VerifiedBinding, serve,
};
use bowline_testkit::attacker::{LeakyLog, replay};
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use futures_util::stream::{self, BoxStream};
use http::{HeaderName, HeaderValue};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The header field in which the executor receives what the verifier knows about the caller.
const CALLER: HeaderName = HeaderName::from_static("x-caller");

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let log = LeakyLog::default();
    let origin = serve_agent(&pki, &authority, &log).await?;
    println!("an agent on {origin}, tokens from {}\n", authority.issuer());

    let (victim, attacker) = (
        pki.client("agent", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    let request = TokenRequest::session_bound("agent", victim.thumbprint()).audience(&origin);
    let token = AccessToken::new(authority.issue(&request))?;
    caller(&pki, &victim, &origin, token).await?;

    println!("\na log has leaked the caller's last token and proof. On connections of their own:");
    let stolen = log.last().ok_or("the agent has received no request")?;
    for (who, leaf, check) in [
        ("another certificate", &attacker, "RS-3"),
        ("the caller's own certificate", &victim, "RS-6"),
    ] {
        let outcome = replay(&pki, leaf, &origin, &stolen, "").await?;
        println!("  an attacker with {who}: {outcome}");
        if outcome.check() != Some(check) {
            return Err(format!("expected a refusal by {check}").into());
        }
    }
    let outcome = replay(&pki, &victim, &origin, &stolen.without_credentials(), "").await?;
    println!(
        "  without a token: {}",
        expected("401", outcome.to_string())?
    );
    Ok(())
}

/// The agent: mutual TLS, session-bound tokens only, and the official server below. Its card needs
/// no token (RS-13).
async fn serve_agent(pki: &Pki, authority: &Authority, log: &LeakyLog) -> Result<String, Error> {
    let leaf = pki.localhost();
    let identity = bowline_server::Identity::new(leaf.chain(), leaf.signing_key())?;
    let tls = ServerTls::builder(identity, ClientAuth::Required(pki.roots().into())).build()?;
    let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
    let authority_part = format!("localhost:{}", listener.local_addr().port());
    let origin = format!("https://{authority_part}");

    let keys =
        JwksUrl::new(&authority.jwks_url())?.trust_only_pem(authority.ca_pem().as_bytes())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(&origin).issuer(authority.issuer()),
        keys,
    )
    .build();
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession)
        .public_paths([WELL_KNOWN_AGENT_CARD_PATH]);

    let card = card(&authority_part, authority.issuer());
    let handler = DefaultRequestHandler::new(WhoAmI, InMemoryTaskStore::new())
        .with_capabilities(card.capabilities.clone());
    let handler = Arc::new(handler);
    let grpc = A2aServiceServer::new(GrpcHandler::new(handler.clone()));
    let app = Router::new()
        .nest("/jsonrpc", jsonrpc_router(handler.clone()))
        .nest("/rest", rest_router(handler))
        .route_service("/lf.a2a.v1.A2AService/{method}", grpc)
        .layer(from_fn(introduce))
        .merge(agent_card_router(Arc::new(StaticAgentCard::new(card))))
        .layer(binding);
    let app = log.in_front_of(app);
    tokio::spawn(serve(
        listener,
        app,
        ServeOptions::default(),
        std::future::pending(),
    ));
    Ok(origin)
}

/// The card: where the agent is, and that a caller needs a client certificate, an access token, and
/// a proof from the first request on.
fn card(authority_part: &str, issuer: &str) -> AgentCard {
    let oauth = OAuth2SecurityScheme {
        flows: OAuthFlows::ClientCredentials(ClientCredentialsOAuthFlow {
            token_url: format!("{issuer}/token"),
            scopes: HashMap::new(),
            refresh_url: None,
        }),
        description: None,
        oauth2_metadata_url: None,
    };
    let mtls = MutualTlsSecurityScheme { description: None };
    AgentCard {
        name: "clerk".to_owned(),
        description: "Says who the caller is, and how that was verified".to_owned(),
        version: "1.0.0".to_owned(),
        supported_interfaces: vec![
            AgentInterface::new(
                format!("https://{authority_part}/jsonrpc"),
                a2a::TRANSPORT_PROTOCOL_JSONRPC,
            ),
            AgentInterface::new(
                format!("https://{authority_part}/rest"),
                a2a::TRANSPORT_PROTOCOL_HTTP_JSON,
            ),
            AgentInterface::new(authority_part, a2a::TRANSPORT_PROTOCOL_GRPC),
        ],
        capabilities: AgentCapabilities {
            streaming: Some(true),
            extensions: Some(vec![SessionBinding::required().into()]),
            ..AgentCapabilities::default()
        },
        default_input_modes: vec!["text/plain".to_owned()],
        default_output_modes: vec!["text/plain".to_owned()],
        skills: vec![AgentSkill {
            id: "who-am-i".to_owned(),
            name: "who am I".to_owned(),
            description: "Says who the caller is".to_owned(),
            tags: vec!["identity".to_owned()],
            examples: None,
            input_modes: None,
            output_modes: None,
            security_requirements: None,
        }],
        provider: None,
        documentation_url: None,
        icon_url: None,
        security_schemes: Some(HashMap::from([
            ("oauth".to_owned(), SecurityScheme::OAuth2(oauth)),
            ("mtls".to_owned(), SecurityScheme::MutualTls(mtls)),
        ])),
        // Both are required.
        security_requirements: Some(vec![HashMap::from([
            ("oauth".to_owned(), Vec::new()),
            ("mtls".to_owned(), Vec::new()),
        ])]),
        signatures: None,
    }
}

/// The executor sees only the request's header fields. So this puts what the layer knows into one
/// of them, and overwrites what the caller may have sent in it.
async fn introduce(mut request: Request, next: Next) -> Response {
    request.headers_mut().remove(CALLER);
    let introduction = request
        .extensions()
        .get::<VerifiedBinding>()
        .map(|binding| {
            let caller = binding.claims()["client_id"].as_str().unwrap_or("nobody");
            format!("{caller}, {}-bound", binding.class().name())
        });
    if let Some(Ok(introduction)) = introduction.map(HeaderValue::try_from) {
        request.headers_mut().insert(CALLER, introduction);
    }
    next.run(request).await
}

/// The executor.
struct WhoAmI;

impl AgentExecutor for WhoAmI {
    fn execute(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let caller = context
            .service_params
            .get(CALLER.as_str())
            .and_then(|values| values.first());
        let caller = caller.map_or("unknown", String::as_str);
        let answer = Message::new(Role::Agent, vec![Part::text(caller)]);
        Box::pin(stream::once(async { Ok(StreamResponse::Message(answer)) }))
    }

    fn cancel(
        &self,
        context: ExecutorContext,
    ) -> BoxStream<'static, Result<StreamResponse, A2AError>> {
        let refusal = A2AError::task_not_cancelable(&context.task_id);
        Box::pin(stream::once(async { Err(refusal) }))
    }
}

/// A caller that asks who it is, over each binding. The same client fetches the card, which needs
/// no token.
async fn caller(pki: &Pki, leaf: &Leaf, origin: &str, token: AccessToken) -> Result<(), Error> {
    let client = Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?)
        .build()?;
    let card = Cards::new(client.clone()).resolve(origin).await?;
    let transports = Transports::new(client.clone(), origin)?.token(token);
    let bindings: [Arc<dyn TransportFactory>; 3] = [
        transports.json_rpc(),
        transports.http_json(),
        transports.grpc(),
    ];
    for (binding, interface) in bindings.iter().zip(&card.card().supported_interfaces) {
        let agent = A2AClient::new(binding.create(card.card(), interface).await?);
        let answer = agent.send_message(&question()).await?;
        println!(
            "{}: {}",
            binding.protocol(),
            expected("agent, session-bound", text(&answer))?
        );
    }
    let stats = client.stats();
    println!(
        "a card and three calls: {} connection(s), {} signature(s)",
        stats.connections_opened,
        stats.totals.signatures()
    );
    Ok(())
}

fn question() -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text("Who am I?")]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

fn text(answer: &SendMessageResponse) -> String {
    match answer {
        SendMessageResponse::Message(message) => {
            message.parts.iter().filter_map(Part::as_text).collect()
        }
        SendMessageResponse::Task(task) => format!("a task, {:?}", task.status.state),
    }
}

/// `happened`, or an error if it is not what this example shows.
fn expected(what: &str, happened: String) -> Result<String, Error> {
    if !happened.contains(what) {
        return Err(format!("expected {what}: {happened}").into());
    }
    Ok(happened)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_caller_passes_on_three_bindings_and_the_attackers_on_none() {
        super::run().await.unwrap();
    }
}

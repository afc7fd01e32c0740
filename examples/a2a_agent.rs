//! An A2A agent on the official server crate behind bowline's verifier: three bindings on one port,
//! a card that says how to call it, and attackers whom the layer refuses.
//!
//!     cargo run -p bowline-examples --bin a2a_agent
//!
//! What a real agent keeps of it is [`serve_agent`], [`introduce`] and [`WhoAmI`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::future::pending;

use a2a::{A2AError, Message, Part, Role, StreamResponse};
use a2a_server::{AgentExecutor, ExecutorContext, WELL_KNOWN_AGENT_CARD_PATH};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn};
use axum::{extract::Request, response::Response};
use bowline::a2a::extension::SessionBinding;
use bowline::server::{
    AcceptPolicy, BindingLayer, ExpectedClaims, JwtValidator, ServeOptions, VerifiedBinding, serve,
};
use futures_util::stream::{self, BoxStream};
use setup::{Error, Setup, ask_over_each_binding};

/// The header field in which the executor receives what the verifier knows about the caller.
const CALLER: HeaderName = HeaderName::from_static("x-caller");

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let origin = serve_agent(&setup).await?;
    ask_over_each_binding(&setup, &origin, "agent, session-bound").await?;
    setup.replay_the_leaked_request(&origin).await
}

/// The agent: mutual TLS, session-bound tokens only, and the official server below. Its card needs
/// no token (RS-13) and says that a caller needs a proof from the first request on.
async fn serve_agent(setup: &Setup) -> Result<String, Error> {
    let (listener, origin) = setup.listen().await?; // axum_server.rs has it in full
    let claims = ExpectedClaims::new(&origin).issuer(setup.issuer());
    let tokens = JwtValidator::builder(claims, setup.keys()?).build();
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession)
        .public_paths([WELL_KNOWN_AGENT_CARD_PATH]);
    let mut card = setup::card(&origin);
    card.capabilities.extensions = Some(vec![SessionBinding::required().into()]);
    let app = setup::agent(WhoAmI, card)
        .layer(from_fn(introduce))
        .layer(binding);
    let app = setup.leaky_log(app);
    tokio::spawn(serve(listener, app, ServeOptions::default(), pending()));
    Ok(origin)
}

/// The executor sees only the request's header fields. So this puts what the layer knows into one
/// of them, and overwrites what the caller may have sent in it.
async fn introduce(mut request: Request, next: Next) -> Response {
    request.headers_mut().remove(CALLER);
    if let Some(binding) = request.extensions().get::<VerifiedBinding>() {
        let caller = binding.claims()["client_id"].as_str().unwrap_or("unknown");
        let caller = format!("{caller}, {}-bound", binding.class().name());
        if let Ok(caller) = HeaderValue::try_from(caller) {
            request.headers_mut().insert(CALLER, caller);
        }
    }
    next.run(request).await
}

/// The executor.
struct WhoAmI;

impl AgentExecutor for WhoAmI {
    fn execute(&self, context: ExecutorContext) -> Answer {
        let caller = context.service_params.get(CALLER.as_str());
        let caller = caller.and_then(|values| values.first());
        let text = caller.map_or("unknown", String::as_str);
        let answer = Message::new(Role::Agent, vec![Part::text(text)]);
        Box::pin(stream::once(async { Ok(StreamResponse::Message(answer)) }))
    }

    fn cancel(&self, context: ExecutorContext) -> Answer {
        let refusal = A2AError::task_not_cancelable(&context.task_id);
        Box::pin(stream::once(async { Err(refusal) }))
    }
}

type Answer = BoxStream<'static, Result<StreamResponse, A2AError>>;

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_caller_passes_on_three_bindings_and_the_attackers_on_none() {
        super::run().await.unwrap();
    }
}

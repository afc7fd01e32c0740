//! A protected axum service, an agent that gets its own tokens, and two attackers.
//!
//!     cargo run -p bowline-examples --bin axum_server
//!
//! What a real service keeps of it is [`service`]; what a real client keeps of it is [`agent`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::future::pending;

use axum::http::{Method, Request};
use axum::{Extension, Router, routing::delete, routing::get};
use bowline::RequestBoundProof;
use bowline::server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, Identity, JwtValidator,
    Listener, RequireRequestBound, ResourceMetadata, ServeOptions, ServerTls, Trust,
    VerifiedBinding, serve,
};
use bowline::token::{
    AuthorizationServer, Authorized, ClientAuthentication as Auth, OAuth, RequiredBinding,
};
use setup::{Error, Setup, expected, refusal, show, text};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let origin = service(&setup).await?;
    agent(&setup, &origin).await?;
    setup.replay_the_leaked_request(&origin).await
}

/// The service: session-bound tokens only, and for each DELETE a proof that is for it alone.
async fn service(setup: &Setup) -> Result<String, Error> {
    let pem = setup.server_certificate();
    let identity = Identity::from_pem(&pem.certificate, &pem.key)?;
    let clients = ClientAuth::Required(Trust::from_pem(&pem.ca)?);
    let tls = ServerTls::builder(identity, clients).build()?;
    let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
    let origin = format!("https://localhost:{}", listener.local_addr().port());

    let claims = ExpectedClaims::new(&origin).issuer(setup.issuer());
    let tokens = JwtValidator::builder(claims, setup.keys()?).build();
    // Says who issues tokens for it (RFC 9728). It needs no token.
    let metadata = ResourceMetadata::new(&*origin)?.authorization_servers([setup.issuer()]);
    let deletes = RequireRequestBound::when(|request| request.method == Method::DELETE);
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession)
        .require_request_bound(deletes)
        .resource(&metadata);
    let app = Router::new()
        .route("/things", get(things))
        .route("/things/{name}", delete(async || "gone"))
        .route_service(metadata.path(), metadata.service())
        .layer(binding);
    let app = setup.leaky_log(app);
    tokio::spawn(serve(listener, app, ServeOptions::default(), pending()));
    Ok(origin)
}

/// The handler sees the binding of the request.
async fn things(Extension(binding): Extension<VerifiedBinding>) -> String {
    let caller = binding.claims()["client_id"].as_str().unwrap_or("unknown");
    format!("{caller}'s hammer, {}-bound", binding.class().name())
}

/// The client: of the authorization servers that it may ask, the service chooses one (RFC 9728).
async fn agent(setup: &Setup, origin: &str) -> Result<(), Error> {
    let client = setup.client("agent")?;
    let server = AuthorizationServer::for_resource(origin).only([setup.issuer()]);
    let settings = OAuth::builder(client.clone(), server, Auth::tls("agent"));
    let source = settings.bound(RequiredBinding::Session).build()?;
    let agent = Authorized::new(client.clone(), source.clone(), origin)?;
    let hammer = || Request::delete(format!("{origin}/things/hammer"));
    let reusable = agent.send(hammer().body(String::new())?).await?;
    show("DELETE, reusable proof", "RS-12", refusal(&reusable))?;
    let own = hammer().extension(RequestBoundProof).body(String::new())?;
    let own = agent.send(own).await?.status();
    show("DELETE, a proof of its own", "200", own.as_str())?;
    for _ in 0..100 {
        let said = text(&agent, &format!("{origin}/things")).await?;
        expected("agent's hammer, session-bound", said)?;
    }
    let (signed, tokens) = (client.stats().totals.signatures(), source.counts());
    let counts = format!("{signed} signatures, {} token", tokens.requested);
    show("100 times GET add none to", "3 signatures, 1 token", counts)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_agent_passes_and_each_attacker_is_refused_by_the_check_that_is_meant() {
        super::run().await.unwrap();
    }
}

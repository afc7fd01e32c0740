//! A protected axum service, an agent that gets its own tokens, and two attackers.
//!
//!     cargo run -p bowline-examples --bin axum_server
//!
//! needs nothing else: it makes the certificates and the authorization server itself
//! (`bowline-testkit`), all on loopback. What a real service keeps of it is [`service`];
//! what a real client keeps of it is [`agent`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use bowline_http_client::{Client, Identity, RequestBoundProof, Trust};
use bowline_proof::challenges;
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, Jwks, JwksUrl, JwtValidator,
    Listener, RequireRequestBound, ResourceMetadata, ServeOptions, ServerTls, VerifiedBinding,
    serve,
};
use bowline_testkit::attacker::{LeakyLog, replay};
use bowline_testkit::authority::{Authority, AuthorityOptions};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_token::{
    AuthorizationServer, Authorized, ClientAuthentication, OAuth, RequiredBinding,
};
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Full};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    // A request-bound proof is useless to an attacker; the log keeps requests without one.
    let log = LeakyLog::for_method(Method::GET);
    let origin = service(&pki, &authority, &log).await?;
    println!(
        "a service on {origin}, tokens from {}\n",
        authority.issuer()
    );

    let (victim, attacker) = (
        pki.client("agent", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    agent(&pki, &victim, &origin).await?;

    println!("\na log has leaked the agent's last token and proof. On connections of their own:");
    let stolen = log.last().ok_or("the service has received no request")?;
    for (who, leaf, check) in [
        ("another certificate", &attacker, "RS-3"),
        ("the agent's own certificate", &victim, "RS-6"),
    ] {
        let outcome = replay(&pki, leaf, &origin, &stolen, "").await?;
        println!("  an attacker with {who}: {outcome}");
        if outcome.check() != Some(check) {
            return Err(format!("expected a refusal by {check}").into());
        }
    }
    Ok(())
}

/// The service: mutual TLS, session-bound tokens only, and a request-bound proof for each request
/// that deletes something.
async fn service(pki: &Pki, authority: &Authority, log: &LeakyLog) -> Result<String, Error> {
    let leaf = pki.localhost();
    let identity = bowline_server::Identity::new(leaf.chain(), leaf.signing_key())?;
    let tls = ServerTls::builder(identity, ClientAuth::Required(pki.roots().into())).build()?;
    let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
    let origin = format!("https://localhost:{}", listener.local_addr().port());

    let keys =
        JwksUrl::new(&authority.jwks_url())?.trust_only_pem(authority.ca_pem().as_bytes())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(&origin).issuer(authority.issuer()),
        Jwks::from(keys),
    )
    .build();
    // Says who issues tokens for it (RFC 9728). It needs no token.
    let metadata = ResourceMetadata::new(&*origin)?
        .authorization_servers([authority.issuer()])
        .certificate_bound_tokens(true);
    let binding = BindingLayer::new(tokens)
        .origins([origin.parse()?])
        .policy(AcceptPolicy::RequireSession)
        .require_request_bound(RequireRequestBound::when(|request| {
            request.method == Method::DELETE
        }))
        .resource(&metadata);

    let app = Router::new()
        .route("/things", get(things))
        .route("/things/{name}", delete(async || "gone"))
        .route_service(metadata.path(), metadata.service())
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

/// The handler sees the binding of the request.
async fn things(Extension(binding): Extension<VerifiedBinding>) -> Json<Vec<String>> {
    let caller = binding.claims()["client_id"]
        .as_str()
        .unwrap_or("nobody")
        .to_owned();
    Json(vec![format!(
        "{caller}'s hammer, {}-bound",
        binding.class().name()
    )])
}

/// The client: it finds the authorization server by itself, and asks for one token and one
/// signature.
async fn agent(pki: &Pki, leaf: &Leaf, origin: &str) -> Result<(), Error> {
    let client = Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?)
        .build()?;
    let server = AuthorizationServer::for_resource(origin);
    let source = OAuth::builder(client.clone(), server, ClientAuthentication::tls("agent"))
        .bound(RequiredBinding::Session)
        .build()?;
    let agent = Authorized::new(client.clone(), source.clone(), origin)?;

    let request = |method, path: &str| {
        http::Request::builder()
            .method(method)
            .uri(format!("{origin}{path}"))
    };
    for _ in 0..100 {
        let response = agent
            .send(request(Method::GET, "/things").body(Full::<Bytes>::default())?)
            .await?;
        response.into_body().collect().await?;
    }
    let response = agent
        .send(request(Method::GET, "/things").body(Full::<Bytes>::default())?)
        .await?;
    let text = response.into_body().collect().await?.to_bytes();
    println!(
        "GET /things, 101 times: {}, {} signature(s), {} token request(s)",
        expected(
            "agent's hammer, session-bound",
            String::from_utf8_lossy(&text).into_owned()
        )?,
        client.stats().totals.signatures(),
        source.counts().requested
    );

    let reusable = agent
        .send(request(Method::DELETE, "/things/hammer").body(Full::<Bytes>::default())?)
        .await?;
    println!(
        "DELETE with the same proof: {}",
        expected("RS-12", outcome(reusable.status(), reusable.headers()))?
    );
    let own = request(Method::DELETE, "/things/hammer").extension(RequestBoundProof);
    let own = agent.send(own.body(Full::<Bytes>::default())?).await?;
    println!(
        "DELETE with a proof of its own: {}",
        expected("200", outcome(own.status(), own.headers()))?
    );
    Ok(())
}

fn outcome(status: http::StatusCode, headers: &HeaderMap) -> String {
    let challenges = challenges(headers);
    let said = challenges
        .iter()
        .find_map(|challenge| challenge.param("error_description"));
    match said {
        Some(said) => format!("{status} ({said})"),
        None => status.to_string(),
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
    async fn the_agent_passes_and_each_attacker_is_refused_by_the_check_that_is_meant() {
        super::run().await.unwrap();
    }
}

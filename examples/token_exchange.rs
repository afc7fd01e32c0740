//! A calls B, and B calls C on A's behalf.
//!
//!     cargo run -p bowline-examples --bin token_exchange
//!
//! A's token is addressed to B and bound to A's certificate, so B cannot use it at C. B exchanges
//! it at the authorization server (RFC 8693) for one that is addressed to C and bound to B's own
//! certificate (TK-4), and that names B as the actor for A. Afterwards A's token is stolen, by B
//! and by another attacker, and refused everywhere. What a real service keeps of it is [`call_c`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use axum::{Extension, Router, extract::State, routing::get};
use bowline::server::VerifiedBinding;
use bowline::token::{
    AuthorizationServer, Authorized, Builder, ClientAuthentication as Auth, Exchanges, Fixed,
    OAuth, RequiredBinding, TokenSource,
};
use bowline::{AccessToken, Client};
use setup::{Error, Setup, show, text};

/// The names of B and C in tokens (`aud`), whatever their addresses.
const B: &str = "https://b.example";
const C: &str = "https://c.example";

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    // A token with `aud` B is addressed to the client `b`, which may exchange it (AS-2).
    setup.register("b", B);
    let c = Router::new().route("/", get(whoami));
    let c = setup.serve(C, c).await?;
    let settings = tokens(&setup, "b", "b")?.resource(C);
    let next = Arc::new((setup.client("b")?, Exchanges::new(settings)?, c.clone()));
    let b = Router::new().route("/", get(call_c)).with_state(next);
    let b = setup.serve(B, b).await?;

    let source = tokens(&setup, "a", "a")?.resource(B).build()?;
    let a = Authorized::new(setup.client("a")?, source.clone(), &b)?;
    let said = text(&a, &b).await?;
    show("A calls B, and B calls C, which says", r#"by "b""#, said)?;

    println!("\nA's token is stolen.");
    let stolen = source.token().await?.access_token().clone();
    let refusal = setup.present("b", &c, &stolen, None).await?;
    show("  B uses it at C", "RS-2", refusal)?;
    let refusal = setup.present("attacker", &b, &stolen, None).await?;
    show("  another attacker uses it at B", "RS-3", refusal)?;
    for (client_id, check) in [("attacker", "AS-2"), ("b", "common name")] {
        let settings = tokens(&setup, client_id, "attacker")?.resource(C);
        let source: OAuth = settings.exchange(Fixed::new(stolen.clone())).build()?;
        let refusal = source.token().await.err().ok_or("it was exchanged")?;
        let label = format!("  the attacker exchanges it as client {client_id}");
        show(&label, check, refusal.to_string())?;
    }
    Ok(())
}

/// Token requests as this client, with the certificate of this name.
fn tokens(setup: &Setup, client_id: &str, certificate: &str) -> Result<Builder, Error> {
    let server = AuthorizationServer::issuer(setup.issuer());
    let client = setup.client(certificate)?;
    let settings = OAuth::builder(client, server, Auth::tls(client_id));
    Ok(settings.bound(RequiredBinding::Session))
}

/// C answers with the subject of the token and the actor (RFC 8693 §4.1).
async fn whoami(Extension(binding): Extension<VerifiedBinding>) -> String {
    let (subject, actor) = (&binding.claims()["sub"], &binding.claims()["act"]["sub"]);
    format!("for {subject}, by {actor}")
}

/// B. The verifier in front of it has checked that A's token came over A's connection, which the
/// authorization server cannot check (AS-3).
async fn call_c(
    State(next): State<Arc<(Client, Exchanges, String)>>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let (client, exchanges, url) = &*next;
    let answer = async {
        let subject = AccessToken::from_authorization(&headers[AUTHORIZATION])?;
        let source = exchanges.for_token(&subject)?;
        text(&Authorized::new(client.clone(), source, url)?, url).await
    };
    answer.await.map_err(|_: Error| StatusCode::BAD_GATEWAY)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_chain_passes_and_each_attack_is_refused_by_its_check() {
        super::run().await.unwrap();
    }
}

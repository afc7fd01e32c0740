//! The official A2A client on bowline's transports: from an agent's card to calls and a stream, one
//! connection, one signature. Then an attacker with the stolen token.
//!
//!     cargo run -p bowline-examples --bin a2a_client
//!
//! needs nothing else: the certificates, the authorization server and the agent are made on the
//! spot (`bowline-testkit`), everything is on loopback. What a real client keeps of it is [`call`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use a2a::{
    Message, Part, Role, SendMessageRequest, SendMessageResponse, StreamResponse, TaskState,
};
use bowline_a2a::card::Cards;
use bowline_a2a::extension::{SESSION_BINDING, SessionBinding};
use bowline_a2a::{ErrorKind, Transports};
use bowline_http_client::{AccessToken, Client, Identity, Trust};
use bowline_proof::challenges;
use bowline_server::{AcceptPolicy, BindingLayer, ExpectedClaims, Jwks, JwtValidator};
use bowline_testkit::a2a as peer;
use bowline_testkit::authority::{Authority, AuthorityOptions, TokenRequest};
use bowline_testkit::peers::{CyclingOptions, CyclingServer};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use futures_util::TryStreamExt;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let pki = Pki::new();
    let authority = Authority::start(&pki, AuthorityOptions::default());
    let server = agent(&pki, &authority)?;
    let (victim, attacker) = (
        pki.client("caller", KeyKind::P256),
        pki.client("attacker", KeyKind::P256),
    );
    let token = AccessToken::new(
        authority.issue(&TokenRequest::session_bound("caller", victim.thumbprint())),
    )?;

    call(&client(&pki, &victim)?, &server.origin(), token.clone()).await?;
    println!("connections at the agent: {}", server.counts().opened);

    println!("\nan attacker has the token:");
    // The attacker's bowline client does not send a token bound to another certificate (CL-8).
    let transports =
        Transports::new(client(&pki, &attacker)?, &server.origin())?.token(token.clone());
    let card = peer::card(&server.origin());
    let refused = transports.factory().create_from_card(&card).await?;
    let error = refused
        .send_message(&message("hello"))
        .await
        .err()
        .ok_or("the attacker was not refused")?;
    let failure = bowline_a2a::Error::from_a2a(&error).ok_or("an error of the transport")?;
    println!(
        "  with this transport: {}",
        expected(
            failure.kind() == ErrorKind::Configuration,
            failure.to_string()
        )?
    );
    for (who, leaf, check) in [
        ("another certificate", &attacker, "RS-3"),
        ("the caller's own certificate", &victim, "RS-4"),
    ] {
        let refusal = without_proof(&pki, leaf, &server.origin(), &token).await?;
        println!(
            "  with another client and {who}: {}",
            expected(refusal.contains(check), refusal)?
        );
    }
    Ok(())
}

/// The client. The card determines how it calls from the first request on; the transport makes the
/// proof.
async fn call(client: &Client, origin: &str, token: AccessToken) -> Result<(), Error> {
    let card = Cards::new(client.clone()).resolve(origin).await?;
    println!("{}: {} bytes of card", card.card().name, card.bytes().len());
    if let Some(binding) = card.requirements()?.session_binding() {
        println!(
            "it announces {SESSION_BINDING}, required: {}",
            binding.is_required()
        );
    }

    let transports = Transports::new(client.clone(), origin)?.token(token);
    let agent = transports.factory().create_from_card(card.card()).await?;
    for number in 0..10 {
        let text = number.to_string();
        let answer = agent.send_message(&message(&text)).await?;
        expected(
            echoed(&answer).as_deref() == Some(&*text),
            format!("{answer:?}"),
        )?;
    }
    let events: Vec<_> = agent
        .send_streaming_message(&message("count 3"))
        .await?
        .try_collect()
        .await?;
    let ended = events
        .iter()
        .any(|event| state(event) == Some(TaskState::Completed));
    println!(
        "ten calls, and a stream of {} events",
        expected(ended, events.len().to_string())?
    );
    let totals = client.stats().totals;
    println!(
        "{} signature(s), {} refused",
        totals.signatures(),
        totals.refused
    );
    Ok(())
}

fn client(pki: &Pki, leaf: &Leaf) -> Result<Client, Error> {
    Ok(Client::builder()
        .identity(Identity::new(leaf.chain(), leaf.signing_key())?)
        .trust(Trust::from_der([pki.ca_der().clone()])?)
        .build()?)
}

fn message(text: &str) -> SendMessageRequest {
    SendMessageRequest {
        message: Message::new(Role::User, vec![Part::text(text)]),
        configuration: None,
        metadata: None,
        tenant: None,
    }
}

/// The text of the artifact in which the agent repeats its message.
fn echoed(answer: &SendMessageResponse) -> Option<String> {
    let SendMessageResponse::Task(task) = answer else {
        return None;
    };
    let parts = task
        .artifacts
        .iter()
        .flatten()
        .flat_map(|artifact| &artifact.parts);
    Some(parts.filter_map(Part::as_text).collect())
}

fn state(event: &StreamResponse) -> Option<TaskState> {
    match event {
        StreamResponse::Task(task) => Some(task.status.state.clone()),
        StreamResponse::StatusUpdate(update) => Some(update.status.state.clone()),
        _ => None,
    }
}

/// A client without proofs, with the stolen token.
async fn without_proof(
    pki: &Pki,
    leaf: &Leaf,
    origin: &str,
    token: &AccessToken,
) -> Result<String, Error> {
    let pem = [leaf.chain_pem(), leaf.key_pem()].concat();
    let http = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem().as_bytes())?])
        .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
        .build()?;
    let call = http
        .post(format!("{origin}/rest/message:send"))
        .bearer_auth(token.secret());
    let response = call.json(&message("hello")).send().await?;
    let challenges = challenges(response.headers());
    let said = challenges
        .iter()
        .find_map(|challenge| challenge.param("error_description"));
    Ok(format!(
        "{} ({})",
        response.status(),
        said.unwrap_or("no reason given")
    ))
}

/// `happened`, or an error if it is not what this example shows.
fn expected(is_it: bool, happened: String) -> Result<String, Error> {
    if !is_it {
        return Err(format!("unexpected: {happened}").into());
    }
    Ok(happened)
}

/// The official server behind the verifier. Its card needs no token (RS-13).
fn agent(pki: &Pki, authority: &Authority) -> Result<CyclingServer, Error> {
    let keys = Jwks::document(authority.jwks().to_string())?;
    let tokens = JwtValidator::builder(
        ExpectedClaims::new(AuthorityOptions::default().audience).issuer(authority.issuer()),
        keys,
    )
    .build();
    Ok(CyclingServer::start_with(
        pki,
        CyclingOptions::default(),
        |origin| {
            let mut card = peer::card(origin);
            card.capabilities.extensions = Some(vec![SessionBinding::required().into()]);
            let verifier = BindingLayer::new(tokens)
                .policy(AcceptPolicy::RequireSession)
                .public_paths(["/.well-known/agent-card.json"]);
            peer::agent(peer::Echo::default(), card).layer(verifier)
        },
    ))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_caller_passes_and_an_attacker_with_its_token_does_not() {
        super::run().await.unwrap();
    }
}

//! The official A2A client on bowline's transports: from an agent's card to calls and a stream, one
//! connection, one signature. Then an attacker with the stolen token.
//!
//!     cargo run -p bowline-examples --bin a2a_client
//!
//! What a real client keeps of it is [`call`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use a2a::{StreamResponse, TaskState};
use bowline::a2a::{ErrorKind, Transports, card::Cards, extension::SESSION_BINDING};
use bowline::{AccessToken, Client, Identity, Trust};
use futures_util::TryStreamExt;
use setup::{Error, Pem, Setup, echoed, expected, message, show};

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let setup = Setup::start();
    let origin = setup.a2a_agent().await?;
    let token = setup.token("agent", &origin)?;
    call(&setup.certificate("agent"), &origin, token.clone()).await?;

    println!("\nan attacker has the token:");
    // The attacker's bowline client does not send a token bound to another certificate (CL-8).
    let transports = Transports::new(setup.client("attacker")?, &origin)?.token(token.clone());
    let factory = transports.factory();
    let agent = factory.create_from_card(&setup::card(&origin)).await?;
    let hello = message("hello");
    let refused = agent.send_message(&hello).await.err();
    let refused = refused.as_ref().and_then(bowline::a2a::Error::from_a2a);
    let refused = refused.filter(|error| error.kind() == ErrorKind::Configuration);
    println!(
        "  with this transport: {}",
        refused.ok_or("the call was made")?
    );
    let url = format!("{origin}/rest/message:send");
    for (whose, name, check) in [
        ("another certificate", "attacker", "RS-3"),
        ("the caller's own certificate", "agent", "RS-4"),
    ] {
        let json = Some(serde_json::to_value(&hello)?);
        let refusal = setup.present(name, &url, &token, json).await?;
        show(
            &format!("  with another client and {whose}"),
            check,
            refusal,
        )?;
    }
    Ok(())
}

/// The client. The card determines how it calls from the first request on; the transport makes the
/// proof.
async fn call(pem: &Pem, origin: &str, token: AccessToken) -> Result<(), Error> {
    let client = Client::builder()
        .identity(Identity::from_pem(&pem.certificate, &pem.key)?)
        .trust(Trust::from_pem(&pem.ca)?)
        .build()?;
    let card = Cards::new(client.clone()).resolve(origin).await?;
    if let Some(binding) = card.requirements()?.session_binding() {
        let required = binding.is_required();
        println!("the card announces {SESSION_BINDING}, required: {required}");
    }

    let transports = Transports::new(client.clone(), origin)?.token(token);
    let agent = transports.factory().create_from_card(card.card()).await?;
    for number in 0..10 {
        let text = number.to_string();
        let answer = agent.send_message(&message(&text)).await?;
        expected(&text, echoed(&answer))?;
    }
    let stream = agent.send_streaming_message(&message("count 3")).await?;
    let events: Vec<StreamResponse> = stream.try_collect().await?;
    let has_ended = events.iter().any(|event| match event {
        StreamResponse::StatusUpdate(update) => update.status.state == TaskState::Completed,
        _ => false,
    });
    expected("true", has_ended.to_string())?;

    let stats = client.stats();
    println!(
        "ten calls and a stream of {} events: {} connection(s), {} signature(s)",
        events.len(),
        stats.connections_opened,
        stats.totals.signatures()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_caller_passes_and_an_attacker_with_its_token_does_not() {
        super::run().await.unwrap();
    }
}

//! The same script of calls over the three bindings: what the stock transports get over plain HTTP.

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

mod play;
mod row;

use std::sync::Arc;

use a2a::{AgentCard, TRANSPORT_PROTOCOL_GRPC, TRANSPORT_PROTOCOL_HTTP_JSON, TRANSPORT_PROTOCOL_JSONRPC};
use a2a_client::TransportFactory;
use a2a_client::jsonrpc::JsonRpcTransportFactory;
use a2a_client::rest::RestTransportFactory;
use a2a_grpc::GrpcTransportFactory;
use bowline_testkit::a2a::{Echo, agent, card};
use bowline_testkit::peers::PlainServer;

pub(crate) use row::Row;

#[tokio::test]
async fn baseline() {
    let server = PlainServer::start_with(|origin| agent(Echo::default(), card(origin)));
    let card = card(&server.origin());
    for factory in stock() {
        let rows = rows(&*factory, &card, &server.addr().to_string()).await;
        println!("\n{}", factory.protocol());
        for row in rows {
            println!("{}: {}\n      {}", row.call(), row.outcome, row.answer);
        }
    }
}

/// The transports that come with the official crates.
pub(crate) fn stock() -> [Arc<dyn TransportFactory>; 3] {
    [
        Arc::new(JsonRpcTransportFactory::new(None)),
        Arc::new(RestTransportFactory::new(None)),
        Arc::new(GrpcTransportFactory::new()),
    ]
}

/// Plays the script over the interface of `card` that `factory` is for.
pub(crate) async fn rows(factory: &dyn TransportFactory, card: &AgentCard, here: &str) -> Vec<Row> {
    let mut interfaces = card.supported_interfaces.iter();
    let interface = interfaces
        .find(|interface| interface.protocol_binding == factory.protocol())
        .expect("an interface of each binding");
    let transport = crate::soon(factory.create(card, interface)).await.unwrap();
    play::play(&*transport, here).await
}

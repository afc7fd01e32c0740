//! No token and no proof that a server echoes, in an error, `Debug`, a label or a log of any crate
//! at TRACE (EX-7). In a process of its own: it listens to every line.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_http_client::{AccessToken, Client, DpopKey, HttpVersions, Identity, Trust};
use bowline_mcp::StreamableHttp;
use bowline_testkit::log::Log;
use bowline_testkit::peers::echoes::{ECHOES, EVENTS, JSON, response};
use bowline_testkit::peers::{CyclingOptions, Echo, EchoServer};
use bowline_testkit::pki::{KeyKind, Pki};
use futures_util::StreamExt;
use rmcp::transport::streamable_http_client::{StreamableHttpClient, StreamableHttpPostResponse};
use serde_json::json;

fn error(echoed: &str) -> String {
    let error =
        json!({ "code": -32602, "message": format!("what is {echoed}?"), "data": [echoed] });
    json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string()
}

const OF_MCP: [Echo; 4] = [
    |t| response(200, &[JSON], error(t)),
    |t| response(404, &[JSON], error(t)),
    |t| response(200, &[EVENTS], format!("data: {}\n\n", error(t))),
    |t| response(200, &[EVENTS], format!("{t}: {t}\nid: \u{1}{t}\n\n")),
];

#[tokio::test]
async fn nothing_that_a_server_echoes_is_shown_or_logged() {
    let log = Log::for_process();
    let pki = Pki::new();
    let leaf = pki.client("agent", KeyKind::P256);
    let key = DpopKey::generate().unwrap();
    let confirmations = EchoServer::confirmations(leaf.thumbprint(), &key.thumbprint());
    for http in [HttpVersions::Http1, HttpVersions::Http2] {
        for cnf in &confirmations {
            let logged = log.text().len();
            let server = EchoServer::start(
                &pki,
                CyclingOptions::default(),
                [&ECHOES[..], &OF_MCP].concat(),
            );
            let client = Client::builder()
                .identity(Identity::new(leaf.chain(), leaf.signing_key()).unwrap())
                .trust(Trust::from_der([pki.ca_der().clone()]).unwrap())
                .dpop_key(key.clone())
                .http_versions(http)
                .build()
                .unwrap();
            let token = AccessToken::new(EchoServer::token(cnf)).unwrap();
            let shown = shown(&server, &client, token).await;
            assert!(server.secrets() > 1, "a token and at least one proof");
            for part in [
                "InsufficientScope",
                "AuthRequired",
                "what is",
                "text/...",
                "HTTP 400",
            ] {
                assert!(shown.contains(part), "no {part} was shown: {shown}");
            }
            assert_eq!(server.find_in(&shown), None, "{shown}");
            assert_eq!(server.find_in(&log.text()[logged..]), None, "in the log");
        }
    }
    let logged = log.text();
    for part in ["h2::", "hyper", "rustls"] {
        assert!(logged.contains(part), "nothing of {part} was logged");
    }
}

/// All that is shown of what the server answers.
async fn shown(server: &EchoServer, client: &Client, token: AccessToken) -> String {
    let http = StreamableHttp::new(client.clone()).token(token);
    let uri: Arc<str> = format!("{}/mcp", server.origin()).into();
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let mut shown = String::new();
    while !server.is_done() {
        let ping = serde_json::from_value(ping.clone()).unwrap();
        let posting = http.post_message(uri.clone(), ping, None, None, HashMap::new());
        match tokio::time::timeout(Duration::from_secs(30), posting)
            .await
            .unwrap()
        {
            Ok(StreamableHttpPostResponse::Sse(events, session)) => {
                let events: Vec<_> = events.collect().await;
                shown += &format!("{events:?}{session:?}\n");
            }
            Ok(StreamableHttpPostResponse::Json(message, session)) => {
                shown += &format!("{message:?}{session:?}\n");
            }
            Ok(other) => panic!("{other:?}"),
            Err(e) => shown += &format!("{e}\n{e:?}\n"),
        }
    }
    shown + &format!("{http:?}{client:?}{:?}", client.stats())
}

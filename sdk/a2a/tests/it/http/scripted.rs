//! A peer on HTTP/1.1 in plaintext that answers by script, byte by byte.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::binding::Binding;
use crate::soon;

/// One request, as the peer saw it.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    /// Of the connection, from 1.
    pub(crate) connection: usize,
    /// `GET /tasks/t`.
    pub(crate) line: String,
    /// With names in lower case.
    fields: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl SeenRequest {
    /// All values of a field.
    pub(crate) fn field(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter().filter(|(known, _)| known == name);
        fields.map(|(_, value)| &**value).collect()
    }

    /// A result as the binding writes it.
    pub(crate) fn result(&self, binding: Binding, result: Value) -> Value {
        match binding {
            Binding::JsonRpc => {
                json!({ "jsonrpc": "2.0", "id": self.body["id"], "result": result })
            }
            _ => result,
        }
    }

    /// An error as the binding writes it.
    pub(crate) fn error(
        &self,
        binding: Binding,
        code: i32,
        message: &str,
        details: Value,
    ) -> Value {
        match binding {
            Binding::JsonRpc => {
                let error = json!({ "code": code, "message": message, "data": details });
                json!({ "jsonrpc": "2.0", "id": self.body["id"], "error": error })
            }
            _ => {
                json!({ "error": { "code": 404, "status": "NOT_FOUND", "message": message, "details": details } })
            }
        }
    }
}

/// An answer in bytes, and what becomes of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Waits for the next request.
    Keep,
    /// Ends the connection.
    Close,
    /// Resets it, without waiting.
    Reset,
    /// Says nothing any more.
    Hang,
}

impl Answer {
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self {
            bytes: bytes.into(),
            then,
        }
    }

    /// A whole answer with its length.
    pub(crate) fn new(status: u16, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let length = body.len().to_string();
        let mut bytes = head(status, &[fields, &[("content-length", &length)]].concat());
        bytes.extend_from_slice(body);
        Self::raw(bytes, Then::Keep)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, &[JSON], body.to_string())
    }

    /// A stream of these bytes in one chunk, which is ended as it should be if its connection is
    /// kept.
    pub(crate) fn stream(content_type: Option<&str>, body: impl AsRef<[u8]>, then: Then) -> Self {
        let mut fields = vec![("transfer-encoding", "chunked")];
        fields.extend(content_type.map(|content_type| ("content-type", content_type)));
        let mut bytes = head(200, &fields);
        let body = body.as_ref();
        if !body.is_empty() {
            bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
            bytes.extend_from_slice(b"\r\n");
        }
        if then == Then::Keep {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Self::raw(bytes, then)
    }
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const TEXT: (&str, &str) = ("content-type", "text/plain");
pub(crate) const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");
pub(crate) const EVENTS: Option<&str> = Some("text/event-stream");

fn head(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
    for (name, value) in fields {
        head += &format!("{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// What a peer answers to what it sees.
pub(crate) type Script = Box<dyn Fn(&SeenRequest) -> Answer + Send + Sync>;

pub(crate) struct Scripted {
    origin: String,
    seen: Arc<watch::Sender<Vec<SeenRequest>>>,
    accepting: JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(
        script: impl Fn(&SeenRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let (log, script) = (seen.clone(), Arc::new(script));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (log, script) = (log.clone(), script.clone());
                let number = connections.len() + 1;
                connections.spawn(async move { serve(tcp, number, &log, &*script).await });
            }
        });
        Self {
            origin,
            seen,
            accepting,
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn seen(&self) -> Vec<SeenRequest> {
        self.seen.borrow().clone()
    }

    pub(crate) async fn until_asked(&self, times: usize) {
        let mut seen = self.seen.subscribe();
        soon(seen.wait_for(|seen| seen.len() >= times))
            .await
            .unwrap();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut tcp: TcpStream,
    connection: usize,
    log: &watch::Sender<Vec<SeenRequest>>,
    script: &(impl Fn(&SeenRequest) -> Answer + ?Sized),
) {
    let mut read = Vec::new();
    while let Some(seen) = request(&mut tcp, &mut read, connection).await {
        let answer = script(&seen);
        let _ = tcp.write_all(&answer.bytes).await;
        log.send_modify(|log| log.push(seen));
        match answer.then {
            Then::Keep => {}
            Then::Close => {
                let _ = tcp.shutdown().await;
                return;
            }
            Then::Reset => {
                tcp.set_zero_linger().unwrap();
                return;
            }
            // The client ends it.
            Then::Hang => while tcp.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {},
        }
    }
}

async fn request(
    tcp: &mut TcpStream,
    read: &mut Vec<u8>,
    connection: usize,
) -> Option<SeenRequest> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        (tcp.read_buf(read).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8(read.drain(..end).collect()).unwrap();
    let mut lines = head.lines();
    let line = lines
        .next()
        .unwrap()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    while read.len() < length {
        (tcp.read_buf(read).await.ok()? > 0).then_some(())?;
    }
    let body: Vec<_> = read.drain(..length).collect();
    Some(SeenRequest {
        connection,
        line,
        fields,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

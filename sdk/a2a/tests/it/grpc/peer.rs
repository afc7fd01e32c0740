//! An HTTP/2 peer in plaintext that answers every call by the same steps, gRPC or not.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// One thing that the peer does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The head of an answer that goes on.
    Head(u16, HeaderMap),
    /// The head of an answer that has nothing else.
    HeadOnly(u16, HeaderMap),
    Data(Vec<u8>),
    /// The stream's end, without trailers.
    End,
    Trailers(HeaderMap),
    Reset(Reason),
    /// GOAWAY with NO_ERROR, and the connection's end.
    Goaway,
    /// The connection's end, and no word about it.
    Cut,
    /// Waits until the caller has reset the stream.
    UntilReset,
    /// Waits for a PING to come back: what was sent has left by then, which a reset would forget.
    Settle,
}

/// What the peer has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerLog {
    pub(crate) connections: usize,
    pub(crate) requests: Vec<HeaderMap>,
    pub(crate) resets: Vec<Reason>,
}

pub(crate) struct ScriptedPeer {
    origin: String,
    fixture: Arc<Fixture>,
    accepting: JoinHandle<()>,
}

type Script = Box<dyn Fn(&HeaderMap) -> Vec<Step> + Send + Sync>;

struct Fixture {
    /// What is done with a request of these fields.
    script: Script,
    seen: watch::Sender<PeerLog>,
}

impl ScriptedPeer {
    pub(crate) async fn start(steps: Vec<Step>) -> Self {
        Self::start_script(move |_| steps.clone()).await
    }

    pub(crate) async fn start_script(
        script: impl Fn(&HeaderMap) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let fixture = Arc::new(Fixture {
            script: Box::new(script),
            seen: watch::Sender::new(PeerLog::default()),
        });
        let shared = fixture.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                shared.seen.send_modify(|seen| seen.connections += 1);
                connections.spawn(serve(tcp, shared.clone()));
            }
        });
        Self {
            origin,
            fixture,
            accepting,
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn seen(&self) -> PeerLog {
        self.fixture.seen.borrow().clone()
    }

    pub(crate) async fn until(&self, reached: impl FnMut(&PeerLog) -> bool) -> PeerLog {
        let mut seen = self.fixture.seen.subscribe();
        let seen = crate::soon(seen.wait_for(reached)).await;
        seen.unwrap().clone()
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What becomes of a connection.
enum Fate {
    Goaway,
    Cut,
}

async fn serve(tcp: TcpStream, fixture: Arc<Fixture>) {
    tcp.set_nodelay(true).unwrap();
    let mut connection = h2::server::handshake(tcp).await.unwrap();
    let ping = Arc::new(Mutex::new(connection.ping_pong().unwrap()));
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            // First, so that what was sent leaves before the connection ends.
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let call = answer(request, respond, fixture.clone(), ping.clone(), tell.clone());
                    calls.spawn(call);
                }
                _ => return,
            },
            fate = told.recv() => match fate {
                Some(Fate::Goaway) => connection.abrupt_shutdown(Reason::NO_ERROR),
                _ => return,
            },
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    fixture: Arc<Fixture>,
    ping: Arc<Mutex<PingPong>>,
    tell: mpsc::UnboundedSender<Fate>,
) {
    let (head, mut body) = request.into_parts();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return };
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    bowline_testkit::secrets::record_request(&head.headers);
    let steps = (fixture.script)(&head.headers);
    fixture
        .seen
        .send_modify(|seen| seen.requests.push(head.headers));
    let mut stream: Option<SendStream<Bytes>> = None;
    for step in steps {
        match step {
            Step::Head(status, fields) => {
                stream = respond.send_response(response(status, fields), false).ok()
            }
            Step::HeadOnly(status, fields) => {
                stream = respond.send_response(response(status, fields), true).ok()
            }
            Step::Data(bytes) => write(stream.as_mut().unwrap(), bytes.into()).await,
            Step::End => drop(stream.as_mut().unwrap().send_data(Bytes::new(), true)),
            Step::Trailers(fields) => drop(stream.as_mut().unwrap().send_trailers(fields)),
            Step::Reset(reason) => match &mut stream {
                Some(stream) => stream.send_reset(reason),
                None => respond.send_reset(reason),
            },
            Step::Goaway => drop(tell.send(Fate::Goaway)),
            Step::Cut => drop(tell.send(Fate::Cut)),
            Step::Settle => drop(ping.lock().await.ping(Ping::opaque()).await),
            Step::UntilReset => {
                let stream = stream.as_mut().unwrap();
                if let Ok(reason) = poll_fn(|cx| stream.poll_reset(cx)).await {
                    fixture.seen.send_modify(|seen| seen.resets.push(reason));
                }
            }
        }
    }
}

/// Writes as fast as the caller reads, until the caller stops.
async fn write(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return;
        };
        if stream
            .send_data(bytes.split_to(room.min(bytes.len())), false)
            .is_err()
        {
            return;
        }
    }
}

fn response(status: u16, fields: HeaderMap) -> Response<()> {
    let mut response = Response::builder().status(status).body(()).unwrap();
    *response.headers_mut() = fields;
    response
}

pub(crate) fn fields<const N: usize>(fields: [(&'static str, &str); N]) -> HeaderMap {
    let fields = fields.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    });
    HeaderMap::from_iter(fields)
}

/// The head of a gRPC answer.
pub(crate) fn grpc_head() -> Step {
    Step::Head(200, fields([("content-type", "application/grpc")]))
}

/// A message with its prefix.
pub(crate) fn message(bytes: &[u8]) -> Step {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    Step::Data([&[0][..], &length, bytes].concat())
}

/// The Task "t" in protobuf.
pub(crate) const TASK: &[u8] = &[0x0a, 1, b't'];

/// A StreamResponse with that task.
pub(crate) const EVENT: &[u8] = &[0x0a, 3, 0x0a, 1, b't'];

pub(crate) fn ok() -> Step {
    Step::Trailers(fields([("grpc-status", "0")]))
}

//! A server that serves correctly but ends its connections early, as load balancers, gateways and
//! serverless platforms do.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bowline_server::{Acceptor, ConnectionFacts, Identity, Lingering, ServerTls};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::server::TlsStream;

use super::connection_log::{ConnectionLog, Counts};
use super::counted_service::{Activity, CountedService};
use crate::net::{OwnedTask, accept_loop, loopback, origin};
use crate::pki::Pki;
use crate::tls::{Alpn, ClientAuth};
use bowline_server::HttpService;

/// When a [`CyclingServer`] ends a connection: as soon as one of these holds. The default is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    /// After this many responses. HTTP/1.1: the last one carries `Connection: close`. HTTP/2: the
    /// server sends GOAWAY before the last one, and still answers requests already on their way, as
    /// a well-behaved server does.
    pub max_responses: Option<u64>,
    /// This long after the handshake, when the requests in flight have been answered.
    pub max_age: Option<Duration>,
    /// After this long with no request in flight.
    pub idle: Option<Duration>,
}

/// How a [`CyclingServer`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CyclingOptions {
    /// When connections end.
    pub cycle: Cycle,
    /// The protocols offered.
    pub alpn: Alpn,
    /// What happens to clients without a certificate.
    pub client_auth: ClientAuth,
    /// Whether sessions may be resumed.
    pub resumption: bool,
    /// How many streams an HTTP/2 client may have at a time.
    pub max_streams: u32,
}

impl Cycle {
    /// Ends each connection after this many responses.
    #[must_use]
    pub fn max_responses(responses: u64) -> Self {
        Self {
            max_responses: Some(responses),
            ..Self::default()
        }
    }
}

impl CyclingOptions {
    /// The default, with another ALPN offer.
    #[must_use]
    pub fn alpn(alpn: Alpn) -> Self {
        Self {
            alpn,
            ..Self::default()
        }
    }
}

impl Default for CyclingOptions {
    /// Never cycles, offers h2 and http/1.1, demands a client certificate, resumes sessions, allows
    /// 2,000 streams.
    fn default() -> Self {
        Self {
            cycle: Cycle::default(),
            alpn: Alpn::Both,
            client_auth: ClientAuth::Required,
            resumption: true,
            max_streams: 2000,
        }
    }
}

/// A TLS server on a loopback port of its own, which ends connections by a [`Cycle`] or on command,
/// and counts. Dropping it cuts its connections.
///
/// Each request carries an `Arc<ConnectionFacts>` in its extensions, so `BindingLayer` works.
pub struct CyclingServer {
    addr: SocketAddr,
    state: Arc<ServerState>,
    _accepting: OwnedTask,
}

impl CyclingServer {
    /// Starts a server with a certificate of `pki` for `localhost` and the loopback addresses, and
    /// serves `service` (an axum `Router`, say).
    ///
    /// # Panics
    /// If no loopback port can be bound, if `max_responses` is 0, or outside a tokio runtime.
    #[must_use]
    pub fn start<S: HttpService>(pki: &Pki, options: CyclingOptions, service: S) -> Self {
        Self::start_with(pki, options, |_| service)
    }

    /// Like [`start`](Self::start), for a service that must know the server's own origin, which
    /// proofs name (PR-7).
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_with<S: HttpService>(
        pki: &Pki,
        options: CyclingOptions,
        service: impl FnOnce(&str) -> S,
    ) -> Self {
        assert!(
            options.cycle.max_responses != Some(0),
            "a connection must be allowed at least one response"
        );
        let acceptor = Acceptor::new(server_tls(pki, &options));
        let listener = loopback();
        let addr = listener.local_addr().expect("a bound socket's address");
        let service = service(&origin(addr));
        let state = Arc::new(ServerState {
            cycle: options.cycle,
            max_streams: options.max_streams,
            log: Arc::new(ConnectionLog::new()),
            retirements: watch::Sender::new(()),
            cuts: watch::Sender::new(Cut::default()),
        });

        let shared = Arc::clone(&state);
        let accepting = accept_loop(listener, move |tcp| {
            let (acceptor, state) = (acceptor.clone(), Arc::clone(&shared));
            let service = service.clone();
            async move {
                // No delay for small writes: the latencies measured are the client's.
                let _ = tcp.set_nodelay(true);
                match acceptor.accept(tcp).await {
                    Ok((tls, facts)) => state.serve(tls, facts, service).await,
                    Err(error) => {
                        tracing::debug!(%error, "a handshake failed");
                        state.log.failed();
                    }
                }
            }
        });
        Self {
            addr,
            state,
            _accepting: accepting,
        }
    }

    address_methods!("https://localhost:<port>", origin);

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.log.counts()
    }

    /// Waits until `reached` holds for the counts; `what` names the condition in the panic message.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn until(&self, what: &str, reached: impl Fn(&Counts) -> bool) {
        self.state.log.until(what, reached).await;
    }

    /// Waits until at least `n` connections have been opened.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn opened(&self, n: u64) {
        self.until("opened connections", |c| c.opened >= n).await;
    }

    /// Waits until at least `n` opened connections are over.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn closed(&self, n: u64) {
        self.until("closed connections", |c| c.closed >= n).await;
    }

    /// Waits until at least `n` requests have been received.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn received(&self, n: u64) {
        self.until("requests", |c| c.requests >= n).await;
    }

    /// Ends every open connection gracefully: idle HTTP/1.1 ones close, busy ones after their
    /// response, HTTP/2 ones send GOAWAY. New connections are accepted as before.
    pub fn retire_all(&self) {
        self.state.retirements.send_replace(());
    }

    /// Cuts every open connection: no response is finished, no GOAWAY or `close_notify` sent. New
    /// connections are accepted as before.
    pub fn cut_all(&self) {
        self.state.cuts.send_replace(Cut::Silently);
    }

    /// Sends GOAWAY on every open HTTP/2 connection and cuts it at once, also with requests in
    /// flight, as a service mesh does when its drain time is over. HTTP/1.1 connections are just
    /// cut. New connections are accepted as before.
    pub fn go_away_all(&self) {
        self.state.cuts.send_replace(Cut::WithGoaway);
    }
}

impl std::fmt::Debug for CyclingServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CyclingServer")
            .field("addr", &self.addr)
            .field("cycle", &self.state.cycle)
            .finish_non_exhaustive()
    }
}

/// How long a retired connection with nothing in flight may take to close. HTTP/2 waits for the
/// client (to acknowledge a PING, or to begin the connection), and some clients never do that.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

fn server_tls(pki: &Pki, options: &CyclingOptions) -> ServerTls {
    let leaf = pki.localhost();
    let identity = Identity::new(leaf.chain(), leaf.signing_key())
        .expect("the key was made for the certificate");
    let client_auth = match options.client_auth {
        ClientAuth::None => bowline_server::ClientAuth::None,
        ClientAuth::Optional => bowline_server::ClientAuth::Optional(pki.roots().into()),
        ClientAuth::Required => bowline_server::ClientAuth::Required(pki.roots().into()),
    };
    let mut builder = ServerTls::builder(identity, client_auth).alpn(options.alpn.protocols());
    if !options.resumption {
        builder = builder.ticket_lifetime(None);
    }
    builder.build().expect("a usable TLS configuration")
}

/// What the connections of one server share.
struct ServerState {
    cycle: Cycle,
    max_streams: u32,
    log: Arc<ConnectionLog>,
    retirements: watch::Sender<()>,
    cuts: watch::Sender<Cut>,
}

/// How connections are cut.
#[derive(Clone, Copy, Debug, Default)]
enum Cut {
    #[default]
    Silently,
    WithGoaway,
}

impl ServerState {
    /// Serves one connection to its end.
    async fn serve<S: HttpService>(
        self: Arc<Self>,
        tls: TlsStream<TcpStream>,
        facts: Arc<ConnectionFacts>,
        service: S,
    ) {
        // Subscribed before the connection is counted: a connection that a test has seen open, it
        // can also end.
        let (mut retirements, mut cuts) = (self.retirements.subscribe(), self.cuts.subscribe());
        // Declared first, so dropped last: the connection is counted as closed after its socket is.
        let entry = Entry::new(Arc::clone(&self.log), &facts);
        let activity = Arc::new(watch::Sender::new(Activity::new()));
        let mut changes = activity.subscribe();
        let opened_at = Instant::now();

        let http = http_for(&facts, self.max_streams);
        let counted = CountedService {
            service: TowerToHyperService::new(service),
            facts: Arc::clone(&facts),
            row: entry.row,
            activity: Arc::clone(&activity),
            log: Arc::clone(&self.log),
            max_responses: self.cycle.max_responses,
        };
        let mut connection =
            pin!(http.serve_connection(TokioIo::new(Lingering::new(tls)), counted));
        let mut is_retirement_due = false;
        loop {
            let now = *changes.borrow_and_update();
            if now.retired_at.is_none() && (is_retirement_due || now.is_last_response_due) {
                connection.as_mut().graceful_shutdown();
                activity.send_modify(|activity| activity.retired_at = Some(Instant::now()));
                continue;
            }
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended in an error");
                    }
                    return;
                }
                _ = cuts.changed() => {
                    let cut = *cuts.borrow();
                    if let Cut::WithGoaway = cut {
                        connection.as_mut().graceful_shutdown();
                        // One poll writes it.
                        let _ = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
                    }
                    return;
                }
                _ = retirements.changed() => is_retirement_due = true,
                () = facts.drain_wanted() => is_retirement_due = true,
                () = at(self.deadline(opened_at, now)) => match now.retired_at {
                    None => is_retirement_due = true,
                    Some(_) => return,
                },
                _ = changes.changed() => {}
            }
        }
    }

    /// When to retire the connection if nothing happens before; if it is retired, when to cut it.
    fn deadline(&self, opened_at: Instant, activity: Activity) -> Option<Instant> {
        let is_idle = activity.in_flight == 0;
        if let Some(retired_at) = activity.retired_at {
            return is_idle.then(|| retired_at.max(activity.idle_since) + CLOSE_TIMEOUT);
        }
        let aged = self.cycle.max_age.map(|age| opened_at + age);
        let idle = self.cycle.idle.filter(|_| is_idle);
        let idle = idle.map(|idle| activity.idle_since + idle);
        aged.into_iter().chain(idle).min()
    }
}

/// A connection's row in the log; dropping it marks the connection as closed.
struct Entry {
    log: Arc<ConnectionLog>,
    row: usize,
}

impl Entry {
    fn new(log: Arc<ConnectionLog>, facts: &ConnectionFacts) -> Self {
        let row = log.opened(facts);
        Self { log, row }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.closed(self.row);
    }
}

/// A builder for the protocol that ALPN chose (HTTP/1.1 if it chose none).
fn http_for(facts: &ConnectionFacts, max_streams: u32) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // hyper would count idle time between two requests as time spent reading a head.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams);
    match facts.alpn() {
        Some(b"h2") => builder.http2_only(),
        _ => builder.http1_only(),
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! The bound that `docs/src/proof-scope.md` proves, as a property: whatever requests come, go, are
//! refused and wait for each other on connections that close under them, `ProofScope::Adaptive`
//! signs no more than min(written sendings, 2) times for one token on one connection, replaced and
//! abandoned proofs apart.
//!
//! The traces are random and so are the threads: each request is a task of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{AccessToken, EXPORTER_LABEL, ExporterValue};
use bowline_testkit::pki::{KeyKind, Pki};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::super::{BindingPolicy, ProofScope, SessionBinding, SessionPolicy};
use crate::bind::{
    Answered, Attachment, Bind, BindConnection, Bound, Learned, RequestFacts, ResponseHead,
};
use crate::conn::facts::{
    ConnectionFacts, ConnectionId, HttpVersion, Presented, TlsFacts, TlsVersion,
};
use crate::conn::identity::Identity;
use crate::observe::{
    Cause, CloseReason, Event, Observer, Observers, Operation, ProofKind, Protocol,
};
use crate::origin::Origin;

const CONNECTIONS: usize = 3;
/// An event names the operation and not the token: so each token has an operation of its own.
const TOKENS: [Operation; 3] = [
    Operation::new(Protocol::HTTP, "a"),
    Operation::new(Protocol::HTTP, "b"),
    Operation::new(Protocol::HTTP, "c"),
];

/// What one request does.
#[derive(Clone, Debug)]
struct Plan {
    connection: usize,
    token: usize,
    /// It asks for a proof of its own.
    alone: bool,
    /// How often others get a turn before it begins.
    late: usize,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// Its caller goes away before its proof is there.
    Vanishes,
    /// hyper gives it back.
    Unsent,
    /// It is answered.
    Answered,
    /// Its proof is refused; it is sent again if that is worth it, and then answered.
    Refused,
    /// Refused, and so is what it is sent again with.
    RefusedTwice,
    /// Its connection closes after it was written.
    Closes,
}

fn plan() -> impl Strategy<Value = Plan> {
    let end = prop_oneof![
        1 => Just(End::Vanishes),
        1 => Just(End::Unsent),
        6 => Just(End::Answered),
        2 => Just(End::Refused),
        1 => Just(End::RefusedTwice),
        1 => Just(End::Closes),
    ];
    let alone = prop::bool::weighted(0.1);
    (0..CONNECTIONS, 0..TOKENS.len(), alone, 0..20usize, end).prop_map(
        |(connection, token, alone, late, end)| Plan {
            connection,
            token,
            alone,
            late,
            end,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn adaptive_signs_at_most_twice_for_a_token_on_a_connection(plans in prop::collection::vec(plan(), 1..60)) {
        let fixture = Fixture::new();
        fixture.run(&plans);
        let counts = fixture.close();
        for (pair, count) in &counts {
            prop_assert!(count.is_within_bound(), "{pair:?}: {count:?}");
        }
        let signed: usize = counts.values().map(|pair| pair.signed).sum();
        prop_assert!(signed > 0 || plans.iter().all(|plan| matches!(plan.end, End::Vanishes)));
    }
}

#[test]
fn nothing_is_signed_for_a_connection_that_has_ended() {
    let fixture = Fixture::new();
    let ended = fixture.connections[0].lock().unwrap().clone();
    ended.close(CloseReason::PeerClosed);
    // The first would claim the pair, the second would have a reusable proof, the third has one of
    // its own.
    for alone in [false, false, true] {
        let plan = Plan {
            connection: 0,
            token: 0,
            alone,
            late: 0,
            end: End::Answered,
        };
        let bound = ended.bound.bind(&fixture.facts(&plan, false)).unwrap();
        assert!(matches!(bound, Bound::ConnectionEnded));
    }
    assert!(fixture.close().is_empty());
}

/// One token on one connection.
#[derive(Clone, Copy, Debug, Default)]
struct PairCounts {
    written: usize,
    /// Sendings that asked for a proof of their own.
    alone: usize,
    signed: usize,
    replacements: usize,
    abandoned: usize,
    /// Written sendings that have claims of their own although they did not ask for them.
    claimed: usize,
}

impl PairCounts {
    fn is_within_bound(&self) -> bool {
        let bound = self.written.min(2) + self.alone + self.replacements + self.abandoned;
        // Besides, no more than one is ever the first.
        self.signed <= bound && self.claimed <= 1
    }
}

type Counts = HashMap<(ConnectionId, Operation), PairCounts>;

/// Counts what the events report.
#[derive(Default)]
struct CountingObserver(Mutex<Counts>);

impl CountingObserver {
    fn note(
        &self,
        connection: ConnectionId,
        operation: Operation,
        note: impl FnOnce(&mut PairCounts),
    ) {
        note(
            self.0
                .lock()
                .unwrap()
                .entry((connection, operation))
                .or_default(),
        );
    }
}

impl Observer for CountingObserver {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::ProofMinted {
                connection,
                operation,
                kind,
                cause,
                ..
            } => self.note(connection, operation, |pair| {
                pair.signed += 1;
                pair.replacements +=
                    usize::from(kind == ProofKind::Connection && cause == Cause::Challenge);
            }),
            Event::ProofAbandoned {
                connection,
                operation,
            } => {
                self.note(connection, operation, |pair| pair.abandoned += 1);
            }
            _ => {}
        }
    }
}

struct Fixture {
    runtime: Runtime,
    observer: Arc<CountingObserver>,
    tokens: Vec<AccessToken>,
    /// When one has closed, a new one replaces it.
    connections: Vec<Mutex<Open>>,
    binding: Arc<SessionBinding>,
    identity: Arc<Identity>,
    opened: AtomicUsize,
}

#[derive(Clone)]
struct Open {
    id: ConnectionId,
    bound: Arc<dyn BindConnection>,
    /// Nothing can be written any more. Locked while something is.
    closed: Arc<Mutex<bool>>,
}

impl Open {
    fn close(&self, reason: CloseReason) {
        *self.closed.lock().unwrap() = true;
        self.bound.closed(reason);
    }
}

impl Fixture {
    fn new() -> Arc<Self> {
        let leaf = Pki::new().client("agent", KeyKind::P256);
        let identity =
            Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes()).unwrap();
        let observer = Arc::new(CountingObserver::default());
        let policy = SessionPolicy {
            binding: BindingPolicy::Auto,
            proof_scope: ProofScope::Adaptive,
            max_proof_age: None,
            sign_timeout: Duration::from_secs(30),
            proofs_per_connection: 100,
            tokens_per_origin: 100,
        };
        let binding = SessionBinding::new(
            policy,
            HashMap::new(),
            Observers(Arc::new([observer.clone() as Arc<dyn Observer>])),
        );
        let cnf = format!(
            r#"{{"cnf":{{"x5t#S256":"{}","tls_exp":"{EXPORTER_LABEL}"}},"sub":"#,
            identity.thumbprint()
        );
        let token = |n: usize| {
            let claims = URL_SAFE_NO_PAD.encode(format!("{cnf}{n}}}"));
            AccessToken::new(format!("e30.{claims}.c2ln")).unwrap()
        };
        let mut fixture = Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(3)
                .enable_time()
                .build()
                .unwrap(),
            observer,
            tokens: (0..TOKENS.len()).map(token).collect(),
            connections: Vec::new(),
            binding: Arc::new(binding),
            identity: Arc::new(identity),
            opened: AtomicUsize::new(0),
        };
        fixture.connections = (0..CONNECTIONS)
            .map(|_| Mutex::new(fixture.open()))
            .collect();
        Arc::new(fixture)
    }

    fn open(&self) -> Open {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(ConnectionFacts {
            id: ConnectionId::next(),
            origin: Origin::from_uri(&Uri::from_static("https://localhost/")).unwrap(),
            peer: None,
            http: HttpVersion::H2,
            tls: Some(TlsFacts {
                exporter: ExporterValue::from_bytes([7; 32]),
                version: TlsVersion::Tls13,
                resumed: false,
                presented: Presented::Certificate(self.identity.clone()),
            }),
            opened_at: SystemTime::now(),
        });
        Open {
            id: facts.id(),
            bound: self.binding.open(&facts),
            closed: Arc::default(),
        }
    }

    fn run(self: &Arc<Self>, plans: &[Plan]) {
        let requests: Vec<_> = plans
            .iter()
            .map(|plan| self.runtime.spawn(self.clone().request(plan.clone())))
            .collect();
        self.runtime.block_on(async {
            for request in requests {
                request.await.unwrap();
            }
        });
    }

    async fn request(self: Arc<Self>, plan: Plan) {
        for _ in 0..plan.late {
            tokio::task::yield_now().await;
        }
        let refused = challenge();
        let ok = HeaderMap::new();
        let (ok, refused) = ((StatusCode::OK, &ok), (StatusCode::UNAUTHORIZED, &refused));
        match plan.end {
            End::Vanishes => {
                let connection = self.connections[plan.connection].lock().unwrap().clone();
                // Whatever it waits for goes on without it.
                drop(connection.bound.bind(&self.facts(&plan, false)));
                self.tell_alone(&connection, &plan);
            }
            End::Unsent => drop(self.sending(&plan, false, None).await),
            End::Answered => drop(self.sending(&plan, false, Some(ok)).await),
            End::Refused => {
                if matches!(
                    self.sending(&plan, false, Some(refused)).await,
                    Learned::SendAgain
                ) {
                    self.sending(&plan, true, Some(ok)).await;
                }
            }
            End::RefusedTwice => {
                if matches!(
                    self.sending(&plan, false, Some(refused)).await,
                    Learned::SendAgain
                ) {
                    self.sending(&plan, true, Some(refused)).await;
                }
            }
            End::Closes => {
                self.sending(&plan, false, Some(ok)).await;
                let old = {
                    let mut connection = self.connections[plan.connection].lock().unwrap();
                    std::mem::replace(&mut *connection, self.open())
                };
                old.close(CloseReason::PeerClosed);
            }
        }
    }

    /// One pass through bind, write and learn; without an answer hyper gives the request back.
    async fn sending(
        &self,
        plan: &Plan,
        is_retry: bool,
        answer: Option<(StatusCode, &HeaderMap)>,
    ) -> Learned {
        let connection = self.connections[plan.connection].lock().unwrap().clone();
        let facts = self.facts(plan, is_retry);
        let bound = connection.bound.bind(&facts).unwrap();
        self.tell_alone(&connection, plan);
        let attached: Attachment = match bound {
            Bound::Attached(attached) => attached,
            Bound::Pending(attached) | Bound::Shared(attached) => attached.await.unwrap(),
            Bound::Nothing => panic!("these tokens demand a proof"),
            Bound::ConnectionEnded => {
                assert!(
                    *connection.closed.lock().unwrap(),
                    "only a connection that has ended"
                );
                return Learned::Nothing;
            }
        };
        let Some((status, headers)) = answer.filter(|_| self.write(&connection, plan, &attached))
        else {
            attached.count_use();
            attached.take_back_use();
            return Learned::Nothing;
        };
        tokio::task::yield_now().await;
        connection.bound.learn(&Answered {
            request: &facts,
            attached: Some(&attached),
            response: &ResponseHead { status, headers },
        })
    }

    /// Whether it was written.
    fn write(&self, connection: &Open, plan: &Plan, attached: &Attachment) -> bool {
        let closed = connection.closed.lock().unwrap();
        if *closed {
            return false;
        }
        attached.count_use();
        if !plan.alone {
            self.observer
                .note(connection.id, TOKENS[plan.token], |pair| {
                    pair.written += 1;
                    pair.claimed += usize::from(attached.request_bound);
                });
        }
        true
    }

    fn tell_alone(&self, connection: &Open, plan: &Plan) {
        let alone = usize::from(plan.alone);
        self.observer
            .note(connection.id, TOKENS[plan.token], |pair| {
                pair.alone += alone
            });
    }

    fn facts(&self, plan: &Plan, is_retry: bool) -> RequestFacts<'_> {
        static URI: std::sync::LazyLock<Uri> =
            std::sync::LazyLock::new(|| Uri::from_static("https://localhost/x"));
        RequestFacts {
            method: &Method::POST,
            uri: &URI,
            token: Some(&self.tokens[plan.token]),
            source: None,
            operation: TOKENS[plan.token],
            request_bound: plan.alone,
            proof_required: false,
            dpop_proof_required: false,
            is_retry,
            asks_for_dpop: false,
        }
    }

    /// Drops every proof; the counts are complete then.
    fn close(self: Arc<Self>) -> Counts {
        let fixture = Arc::into_inner(self).expect("every request has ended");
        // Signings for cancelled requests come to their end too.
        drop(fixture.runtime);
        for connection in &fixture.connections {
            connection.lock().unwrap().close(CloseReason::Evicted);
        }
        drop(fixture.connections);
        fixture.observer.0.lock().unwrap().clone()
    }
}

fn challenge() -> HeaderMap {
    let value = HeaderValue::from_static(r#"Bearer error="invalid_proof""#);
    HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)])
}

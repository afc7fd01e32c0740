//! Proofs made ahead: for which tokens, and how many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_proof::{AccessToken, EXPORTER_LABEL, ExporterValue};
use bowline_testkit::pki::{KeyKind, Pki};
use futures_util::FutureExt;
use http::{Method, Uri};

use super::super::{BindingPolicy, ProofScope, SessionBinding, SessionPolicy};
use crate::bind::{Bind, BindConnection, Bound, RequestFacts};
use crate::conn::facts::{
    ConnectionFacts, ConnectionId, HttpVersion, Presented, TlsFacts, TlsVersion,
};
use crate::conn::identity::Identity;
use crate::observe::{Cause, CloseReason, Event, Observer, Observers, Operation};
use crate::origin::Origin;

const LONG: Duration = Duration::from_secs(3600);

/// What was signed, in order, and how many proofs were abandoned.
#[derive(Default)]
struct Signed(Mutex<(Vec<Cause>, usize)>);

impl Observer for Signed {
    fn event(&self, event: &Event<'_>) {
        let mut signed = self.0.lock().unwrap();
        match *event {
            Event::ProofMinted { cause, .. } => signed.0.push(cause),
            Event::ProofAbandoned { .. } => signed.1 += 1,
            _ => {}
        }
    }
}

impl Signed {
    fn ahead(&self) -> usize {
        let signed = self.0.lock().unwrap();
        signed.0.iter().filter(|c| **c == Cause::Ahead).count()
    }
}

struct Fixture {
    binding: SessionBinding,
    identity: Arc<Identity>,
    signed: Arc<Signed>,
}

fn identity() -> Arc<Identity> {
    let leaf = Pki::new().client("agent", KeyKind::P256);
    let (chain, key) = (leaf.chain_pem(), leaf.key_pem());
    Arc::new(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

impl Fixture {
    fn new(proof_scope: ProofScope) -> Self {
        let signed = Arc::new(Signed::default());
        let policy = SessionPolicy {
            binding: BindingPolicy::Auto,
            proof_scope,
            max_proof_age: None,
            sign_timeout: Duration::from_secs(30),
            proofs_per_connection: 100,
            tokens_per_origin: 100,
        };
        let observers = Observers(Arc::new([signed.clone() as Arc<dyn Observer>]));
        Self {
            binding: SessionBinding::new(policy, HashMap::new(), observers),
            identity: identity(),
            signed,
        }
    }

    fn open(&self, identity: &Arc<Identity>) -> Arc<dyn BindConnection> {
        self.binding.open(&Arc::new(ConnectionFacts {
            id: ConnectionId::next(),
            origin: Origin::from_uri(&Uri::from_static("https://localhost/")).unwrap(),
            peer: None,
            http: HttpVersion::H2,
            tls: Some(TlsFacts {
                exporter: ExporterValue::from_bytes([7; 32]),
                version: TlsVersion::Tls13,
                resumed: false,
                presented: Presented::Certificate(identity.clone()),
            }),
            opened_at: SystemTime::now(),
        }))
    }

    /// A session-bound token that expires in an hour.
    fn token(&self, number: usize) -> AccessToken {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let exp = now.unwrap().as_secs() + LONG.as_secs();
        let claims = format!(
            r#"{{"cnf":{{"x5t#S256":"{}","tls_exp":"{EXPORTER_LABEL}"}},"sub":{number},"exp":{exp}}}"#,
            self.identity.thumbprint()
        );
        AccessToken::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))).unwrap()
    }

    /// A connection with a proof of each token, the last one used last.
    async fn with_proofs(&self, tokens: &[AccessToken]) -> Arc<dyn BindConnection> {
        let connection = self.open(&self.identity);
        for token in tokens {
            write(&connection, token).await;
        }
        connection
    }
}

/// A request with this token; whether its proof was there already.
async fn write(connection: &Arc<dyn BindConnection>, token: &AccessToken) -> bool {
    let uri = Uri::from_static("https://localhost/x");
    let facts = RequestFacts {
        method: &Method::GET,
        uri: &uri,
        token: Some(token),
        source: None,
        operation: Operation::OTHER,
        request_bound: false,
        proof_required: false,
        dpop_proof_required: false,
        asks_for_dpop: false,
        is_retry: false,
    };
    let (attached, was_there) = match connection.bind(&facts).unwrap() {
        Bound::Attached(attached) => (attached, true),
        Bound::Pending(attached) | Bound::Shared(attached) => (attached.await.unwrap(), false),
        Bound::Nothing | Bound::ConnectionEnded => panic!("a proof is demanded"),
    };
    attached.count_use();
    was_there
}

#[tokio::test]
async fn the_eight_tokens_used_last_are_proved_ahead() {
    let fixture = Fixture::new(ProofScope::Connection);
    let tokens: Vec<_> = (0..12).map(|n| fixture.token(n)).collect();
    let old = fixture.with_proofs(&tokens).await;
    // Used again: now among the last.
    assert!(write(&old, &tokens[0]).await);
    let new = fixture.open(&fixture.identity);
    new.prove_ahead(old.in_use(LONG)).expect("tokens").await;
    assert_eq!(fixture.signed.ahead(), 8);
    for (number, token) in tokens.iter().enumerate() {
        let is_last = number == 0 || number >= 5;
        assert_eq!(new.holds(token), is_last, "{number}");
        assert_eq!(write(&new, token).await, is_last, "{number}");
    }
}

#[tokio::test]
async fn only_tokens_that_were_in_use_lately_are_proved_and_those_not_used_are_abandoned() {
    let fixture = Fixture::new(ProofScope::Connection);
    let tokens = [fixture.token(1), fixture.token(2)];
    let old = fixture.with_proofs(&tokens).await;
    let new = fixture.open(&fixture.identity);
    assert!(new.prove_ahead(old.in_use(Duration::ZERO)).is_none());
    new.prove_ahead(old.in_use(LONG)).expect("tokens").await;
    // A proof made ahead is not in use by that.
    assert!(new.in_use(LONG).tokens.is_empty());
    assert!(write(&new, &tokens[0]).await);
    assert_eq!(new.in_use(LONG).tokens.len(), 1);
    new.closed(CloseReason::Idle);
    assert_eq!(
        fixture.signed.0.lock().unwrap().1,
        1,
        "the other is abandoned"
    );
}

#[tokio::test]
async fn another_certificate_or_another_scope_proves_nothing_ahead() {
    let fixture = Fixture::new(ProofScope::Connection);
    let old = fixture.with_proofs(&[fixture.token(1)]).await;
    let other = fixture.open(&identity());
    assert!(other.prove_ahead(old.in_use(LONG)).is_none(), "CL-8");
    for proof_scope in [ProofScope::Request, ProofScope::Adaptive] {
        let scoped = Fixture::new(proof_scope);
        let tokens = [scoped.token(1)];
        let old = scoped.with_proofs(&tokens).await;
        write(&old, &tokens[0]).await;
        assert!(old.in_use(LONG).tokens.is_empty());
        let new = scoped.open(&scoped.identity);
        assert!(new.prove_ahead(old.in_use(LONG)).is_none());
    }
}

/// CL-3: it waits behind every request for the key, and a request does not wait for it.
#[tokio::test]
async fn a_request_signs_for_itself_while_what_is_made_ahead_waits() {
    let fixture = Fixture::new(ProofScope::Connection);
    let token = fixture.token(1);
    let old = fixture.with_proofs(std::slice::from_ref(&token)).await;
    let new = fixture.open(&fixture.identity);
    let busy = fixture.identity.signings().request();
    let mut ahead = new.prove_ahead(old.in_use(LONG)).expect("a token");
    assert!((&mut ahead).now_or_never().is_none());
    assert!(!write(&new, &token).await, "its own");
    drop(busy);
    ahead.await;
    assert_eq!(fixture.signed.ahead(), 0, "it was not needed any more");
}

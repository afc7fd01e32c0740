//! Which tokens a connection hands to its successor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bowline_proof::{AccessToken, ExporterValue};
use bowline_testkit::pki::{KeyKind, Pki};
use http::{Method, Uri};

use super::super::{BindingPolicy, ProofScope, SessionBinding, SessionPolicy};
use crate::bind::{Bind, Bound, MOST_AHEAD, RequestFacts};
use crate::conn::facts::{
    ConnectionFacts, ConnectionId, HttpVersion, Presented, TlsFacts, TlsVersion,
};
use crate::conn::identity::Identity;
use crate::observe::{Observers, Operation};
use crate::origin::Origin;

#[tokio::test]
async fn the_tokens_that_were_used_last_are_handed_on_the_last_first() {
    let leaf = Pki::new().client("agent", KeyKind::P256);
    let identity = Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes());
    let policy = SessionPolicy {
        binding: BindingPolicy::Require,
        proof_scope: ProofScope::Connection,
        max_proof_age: None,
        sign_timeout: Duration::from_secs(30),
        proofs_per_connection: 100,
        tokens_per_origin: 100,
    };
    let uri = Uri::from_static("https://localhost/x");
    let facts = Arc::new(ConnectionFacts {
        id: ConnectionId::next(),
        origin: Origin::from_uri(&uri).unwrap(),
        peer: None,
        http: HttpVersion::H2,
        tls: Some(TlsFacts {
            exporter: ExporterValue::from_bytes([7; 32]),
            version: TlsVersion::Tls13,
            resumed: false,
            presented: Presented::Certificate(Arc::new(identity.unwrap())),
        }),
        opened_at: SystemTime::now(),
    });
    let connection =
        SessionBinding::new(policy, HashMap::new(), Observers(Arc::new([]))).open(&facts);
    let tokens: Vec<_> = (0..MOST_AHEAD + 4)
        .map(|number| AccessToken::new(format!("opaque-{number}")).unwrap())
        .collect();
    // The first is used again at the end: the order of the last use is not that of the first.
    let uses: Vec<_> = tokens.iter().chain(&tokens[..1]).collect();

    for token in &uses {
        let request = RequestFacts {
            method: &Method::POST,
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
        if let Bound::Shared(proof) = connection.bind(&request).unwrap() {
            proof.await.unwrap();
        }
    }

    let in_use = connection.in_use(Duration::from_secs(3600)).tokens;
    let handed_on: Vec<_> = in_use.iter().map(|in_use| in_use.token).collect();
    let last: Vec<_> = uses.iter().rev().map(|token| *token.hash()).collect();
    assert_eq!(handed_on, last[..MOST_AHEAD]);
}

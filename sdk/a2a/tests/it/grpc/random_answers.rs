//! Answers by chance: bytes, ends and statuses of every kind, over a connection.

use a2a_client::ServiceParams;
use h2::Reason;
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Builder;

use super::peer::{EVENT, ScriptedPeer, Step, grpc_head, message, ok};
use super::{get_task, plain_transports, subscribed, transport};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(whole(EVENT)),
        2 => vec(any::<u8>(), 0..20).prop_map(|bytes| whole(&bytes)),
        1 => vec(any::<u8>(), 0..20),
        1 => (0..whole(EVENT).len()).prop_map(|length| whole(EVENT)[..length].to_vec()),
    ]
}

fn whole(bytes: &[u8]) -> Vec<u8> {
    match message(bytes) {
        Step::Data(bytes) => bytes,
        step => unreachable!("{step:?}"),
    }
}

/// Whether bytes are messages with their prefixes, and nothing else.
fn are_whole(bytes: &[u8]) -> bool {
    let Some((prefix, rest)) = bytes.split_first_chunk::<5>() else {
        return bytes.is_empty();
    };
    let [_, length @ ..] = *prefix;
    let rest = rest.get(u32::from_be_bytes(length) as usize..);
    rest.is_some_and(are_whole)
}

fn status() -> impl Strategy<Value = HeaderMap> {
    let names = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "www-authenticate",
        "retry-after",
    ];
    let value = prop_oneof![
        3 => (0..17u8).prop_map(|code| code.to_string().into_bytes()),
        1 => "[A-Za-z0-9+/=]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..20),
    ];
    vec((prop::sample::select(names.to_vec()), value), 0..6).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(name, value);
            }
        }
        map
    })
}

fn end() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(ok()),
        3 => status().prop_map(Step::Trailers),
        1 => Just(Step::End),
        1 => any::<u32>().prop_map(|code| Step::Reset(Reason::from(code))),
        1 => Just(Step::Cut),
        1 => Just(Step::Goaway),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing panics or hangs; an error is the last item; and only what ended with success, and
    /// whole, ends without one.
    #[test]
    fn a_stream_ends_quietly_only_if_its_status_is_success(parts in vec(bytes(), 0..5), end in end()) {
        let succeeds = match &end {
            Step::Trailers(fields) => {
                let status = fields.get("grpc-status").and_then(|status| status.to_str().ok());
                status.is_some_and(|digits| digits.parse() == Ok(0))
            }
            _ => false,
        };
        let succeeds = succeeds && are_whole(&parts.concat());
        let mut steps = vec![grpc_head()];
        steps.extend(parts.iter().cloned().map(Step::Data));
        steps.extend([Step::Settle, end]);
        let (told, answered) = Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let peer = ScriptedPeer::start(steps).await;
            let transport = transport(&*plain_transports(peer.origin()).grpc(), peer.origin()).await.unwrap();
            let answer = get_task(&*transport, &ServiceParams::new()).await;
            (subscribed(&*transport).await, answer.is_ok())
        });
        let errors = told.iter().filter(|told| told.is_err()).count();
        prop_assert!(errors == usize::from(told.last().is_some_and(Result::is_err)), "{told:?}");
        prop_assert!(succeeds || (errors == 1 && !answered), "{told:?}");
        if succeeds && parts.iter().all(|part| *part == whole(EVENT)) {
            prop_assert!(errors == 0 && told.len() == parts.len(), "{told:?}");
            prop_assert_eq!(answered, parts.len() == 1);
        }
    }
}

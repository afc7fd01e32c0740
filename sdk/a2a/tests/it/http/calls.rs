//! What goes out: where, with which fields, how it is counted, and with which token.

use std::collections::BTreeSet;

use a2a::{
    CancelTaskRequest, DeleteTaskPushNotificationConfigRequest, GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest, GetTaskRequest, ListTaskPushNotificationConfigsRequest,
    ListTasksRequest, SubscribeToTaskRequest, TaskPushNotificationConfig, TaskState,
};
use a2a_client::{ServiceParams, Transport};
use bowline_a2a::{ErrorKind, operation};
use bowline_http_client::{AccessToken, Client, Fault};
use bowline_transport::RequestBoundCalls;
use serde_json::json;

use super::scripted::{Answer, Scripted};
use super::{BOTH, create, failure, get_task, plain};
use crate::binding::{Binding, message, say};
use crate::fixture::Fixture;
use crate::grpc::Successive;
use crate::soon;

/// Answers every call as if it had been for a task.
async fn agent(binding: Binding) -> Scripted {
    Scripted::start(move |seen| Answer::json(200, &seen.result(binding, json!({ "id": "t" }))))
        .await
}

/// Each method once, whatever comes of it.
async fn every_method(transport: &dyn Transport, tenant: Option<&str>) {
    let tenant = tenant.map(str::to_owned);
    let params = ServiceParams::new();
    let mut send = message("x");
    send.tenant = tenant.clone();
    let id = "a/b?".to_owned();
    let config = TaskPushNotificationConfig {
        url: "https://example.com".to_owned(),
        id: None,
        task_id: id.clone(),
        token: None,
        authentication: None,
        tenant: tenant.clone(),
    };
    soon(async {
        let _ = transport.send_message(&params, &send).await;
        let _ = transport.send_streaming_message(&params, &send).await;
        let get = GetTaskRequest {
            id: id.clone(),
            history_length: Some(0),
            tenant: tenant.clone(),
        };
        let _ = transport.get_task(&params, &get).await;
        let list = ListTasksRequest {
            context_id: Some("c d".to_owned()),
            status: Some(TaskState::InputRequired),
            page_size: Some(7),
            page_token: Some("p+/=".to_owned()),
            history_length: Some(3),
            status_timestamp_after: serde_json::from_value(json!("2026-11-24T10:00:00.5+01:00"))
                .unwrap(),
            include_artifacts: Some(false),
            tenant: tenant.clone(),
        };
        let _ = transport.list_tasks(&params, &list).await;
        let cancel = CancelTaskRequest {
            id: id.clone(),
            metadata: None,
            tenant: tenant.clone(),
        };
        let _ = transport.cancel_task(&params, &cancel).await;
        let subscribe = SubscribeToTaskRequest {
            id: id.clone(),
            tenant: tenant.clone(),
        };
        let _ = transport.subscribe_to_task(&params, &subscribe).await;
        let _ = transport.create_push_config(&params, &config).await;
        let get = GetTaskPushNotificationConfigRequest {
            task_id: id.clone(),
            id: "x:y".to_owned(),
            tenant: tenant.clone(),
        };
        let _ = transport.get_push_config(&params, &get).await;
        let list = ListTaskPushNotificationConfigsRequest {
            task_id: id.clone(),
            page_size: Some(2),
            page_token: Some("n".to_owned()),
            tenant: tenant.clone(),
        };
        let _ = transport.list_push_configs(&params, &list).await;
        let delete = DeleteTaskPushNotificationConfigRequest {
            task_id: id,
            id: "x:y".to_owned(),
            tenant: tenant.clone(),
        };
        let _ = transport.delete_push_config(&params, &delete).await;
        let _ = transport
            .get_extended_agent_card(&params, &GetExtendedAgentCardRequest { tenant })
            .await;
        transport.destroy().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn http_json_calls_go_where_the_specification_puts_them() {
    for (tenant, prefix) in [(None, ""), (Some(""), ""), (Some("ten/ant"), "/ten%2Fant")] {
        let peer = agent(Binding::HttpJson).await;
        let transport = create(Binding::HttpJson, &plain(peer.origin()), peer.origin()).await;
        every_method(&*transport, tenant).await;
        let list = "contextId=c%20d&status=TASK_STATE_INPUT_REQUIRED&pageSize=7&pageToken=p%2B%2F%3D&historyLength=3\
                    &statusTimestampAfter=2026-11-24T09%3A00%3A00.500Z&includeArtifacts=false";
        let expected = [
            "POST {}/message:send".to_owned(),
            "POST {}/message:stream".to_owned(),
            "GET {}/tasks/a%2Fb%3F?historyLength=0".to_owned(),
            format!("GET {{}}/tasks?{list}"),
            "POST {}/tasks/a%2Fb%3F:cancel".to_owned(),
            "GET {}/tasks/a%2Fb%3F:subscribe".to_owned(),
            "POST {}/tasks/a%2Fb%3F/pushNotificationConfigs".to_owned(),
            "GET {}/tasks/a%2Fb%3F/pushNotificationConfigs/x%3Ay".to_owned(),
            "GET {}/tasks/a%2Fb%3F/pushNotificationConfigs?pageSize=2&pageToken=n".to_owned(),
            "DELETE {}/tasks/a%2Fb%3F/pushNotificationConfigs/x%3Ay".to_owned(),
            "GET {}/extendedAgentCard".to_owned(),
        ];
        let expected: Vec<_> = expected
            .map(|line| line.replace("{}", &format!("/rest{prefix}")))
            .into();
        let seen = peer.seen();
        let lines: Vec<_> = seen.iter().map(|seen| seen.line.clone()).collect();
        assert_eq!(lines, expected);
        for seen in &seen {
            let has_body = seen.line.starts_with("POST");
            let content_type = if has_body {
                vec!["application/a2a+json"]
            } else {
                vec![]
            };
            assert_eq!(seen.field("content-type"), content_type, "{}", seen.line);
            assert_eq!(seen.body.is_null(), !has_body);
            let accept = match seen.line.contains(":stream") || seen.line.contains(":subscribe") {
                true => "text/event-stream",
                false => "application/a2a+json, application/json",
            };
            assert_eq!(seen.field("accept"), [accept], "{}", seen.line);
        }
        assert_eq!(seen[0].body["message"]["parts"][0]["text"], "x");
    }
}

#[tokio::test]
async fn json_rpc_calls_have_a_method_and_an_id_of_their_own() {
    let peer = agent(Binding::JsonRpc).await;
    let transport = create(Binding::JsonRpc, &plain(peer.origin()), peer.origin()).await;
    every_method(&*transport, Some("tenant")).await;
    let seen = peer.seen();
    let methods: Vec<_> = seen
        .iter()
        .map(|seen| seen.body["method"].as_str().unwrap())
        .collect();
    let expected = [
        "SendMessage",
        "SendStreamingMessage",
        "GetTask",
        "ListTasks",
        "CancelTask",
        "SubscribeToTask",
        "CreateTaskPushNotificationConfig",
        "GetTaskPushNotificationConfig",
        "ListTaskPushNotificationConfigs",
        "DeleteTaskPushNotificationConfig",
        "GetExtendedAgentCard",
    ];
    assert_eq!(methods, expected);
    let ids: BTreeSet<_> = seen
        .iter()
        .map(|seen| seen.body["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), seen.len());
    for seen in &seen {
        assert_eq!(
            (&*seen.line, &seen.body["jsonrpc"]),
            ("POST /jsonrpc", &json!("2.0"))
        );
        assert_eq!(seen.field("content-type"), ["application/json"]);
        let is_stream = matches!(
            seen.body["method"].as_str(),
            Some("SendStreamingMessage" | "SubscribeToTask")
        );
        let accept = if is_stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        assert_eq!(seen.field("accept"), [accept]);
        assert_eq!(seen.body["params"]["tenant"], "tenant", "{}", seen.body);
    }
    assert_eq!(
        seen[2].body["params"],
        json!({ "id": "a/b?", "historyLength": 0, "tenant": "tenant" })
    );
}

fn params<const N: usize>(params: [(&str, &[&str]); N]) -> ServiceParams {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    params
        .map(|(name, values)| (name.to_owned(), owned(values)))
        .into()
}

#[tokio::test]
async fn service_parameters_are_header_fields() {
    for binding in BOTH {
        let peer = agent(binding).await;
        let transport = create(binding, &plain(peer.origin()), peer.origin()).await;
        let given = params([
            (
                "A2A-Extensions",
                &["https://one.example", "https://two.example"],
            ),
            ("X-Two", &["1", "2"]),
            ("x-none", &[]),
            ("x-empty", &[""]),
        ]);
        get_task(&*transport, &given).await.unwrap();
        get_task(
            &*transport,
            &params([("a2a-version", &["0.9"]), ("A2A-Extensions", &[])]),
        )
        .await
        .unwrap();
        let seen = peer.seen();
        assert_eq!(
            seen[0].field("a2a-extensions"),
            ["https://one.example,https://two.example"]
        );
        assert_eq!(seen[0].field("x-two"), ["1", "2"]);
        assert_eq!(seen[0].field("a2a-version"), [a2a::VERSION]);
        assert_eq!(
            (seen[0].field("x-none").len(), seen[0].field("x-empty")),
            (0, vec![""])
        );
        assert_eq!(seen[1].field("a2a-version"), ["0.9"]);
        assert_eq!(seen[1].field("a2a-extensions").len(), 0);
        assert_eq!(seen[0].field("authorization").len(), 0);
    }
}

#[tokio::test]
async fn what_is_not_the_caller_s_to_say_is_refused_before_anything_is_sent() {
    for binding in BOTH {
        let peer = agent(binding).await;
        let transports = plain(peer.origin()).token(AccessToken::new("own").unwrap());
        let transport = create(binding, &transports, peer.origin()).await;
        for (name, value) in [
            ("Accept", "a-secret"),
            ("accept-encoding", "a-secret"),
            ("Connection", "a-secret"),
            ("content-encoding", "a-secret"),
            ("Content-Length", "7"),
            ("content-type", "a-secret"),
            ("expect", "100-continue"),
            ("host", "a-secret"),
            ("keep-alive", "a-secret"),
            ("proxy-connection", "a-secret"),
            ("proxy-authorization", "a-secret"),
            ("te", "a-secret"),
            ("trailer", "a-secret"),
            ("Transfer-Encoding", "a-secret"),
            ("upgrade", "a-secret"),
            ("Session-Binding-Proof", "a-secret"),
            ("DPoP", "a-secret"),
            ("Authorization", "Bearer a-secret"),
            ("no name", "a-secret"),
            ("", "a-secret"),
            (":path", "a-secret"),
            ("x-é", "a-secret"),
            ("x-key", "a-secret\r\nx-other: 1"),
            ("x-key", "a-secret\0"),
            ("A2A-Extensions", "a-secret\n"),
        ] {
            let error = get_task(&*transport, &params([(name, &[value])]))
                .await
                .unwrap_err();
            let failed = failure(&error);
            let expected = (ErrorKind::InvalidCall, Fault::Caller, false);
            assert_eq!(
                (
                    failed.kind(),
                    failed.fault(),
                    failed.may_have_been_processed()
                ),
                expected,
                "{name}: {error}"
            );
            assert!(
                !format!("{error:?}").contains("a-secret"),
                "{name}: {error:?}"
            );
            if name == "Authorization" {
                assert!(error.message.contains("two credentials"), "{error}");
            }
        }
        assert_eq!(peer.seen().len(), 0);
        get_task(&*transport, &params([("x-key", &["a-secret"])]))
            .await
            .unwrap();
        assert_eq!(peer.seen()[0].field("authorization"), ["Bearer own"]);
    }
}

/// A name that no path can have is the caller's matter, and nothing is sent.
#[tokio::test]
async fn a_task_without_a_name_cannot_be_asked_for_over_http_json() {
    let peer = agent(Binding::HttpJson).await;
    let transport = create(Binding::HttpJson, &plain(peer.origin()), peer.origin()).await;
    for id in ["", ".", ".."] {
        let request = GetTaskRequest {
            id: id.to_owned(),
            history_length: None,
            tenant: None,
        };
        let error = soon(transport.get_task(&ServiceParams::new(), &request))
            .await
            .unwrap_err();
        assert_eq!(failure(&error).kind(), ErrorKind::InvalidCall);
    }
    assert_eq!(peer.seen().len(), 0);
}

#[tokio::test]
async fn an_interface_elsewhere_or_nowhere_is_no_transport() {
    let transports = plain("https://agent.example");
    for binding in BOTH {
        for (url, kind) in [
            ("https://other.example/x", ErrorKind::OtherOrigin),
            ("https://agent.example:8443/x", ErrorKind::OtherOrigin),
            ("http://agent.example/x", ErrorKind::OtherOrigin),
            ("https://agent.example.evil.com/", ErrorKind::OtherOrigin),
            (
                "https://user:a-secret@agent.example/",
                ErrorKind::InvalidCall,
            ),
            ("https://user:a-secret@/?a-secret", ErrorKind::InvalidCall),
            ("/x?a-secret", ErrorKind::InvalidCall),
            ("", ErrorKind::InvalidCall),
            ("not a url a-secret", ErrorKind::InvalidCall),
        ] {
            let mut card = bowline_testkit::a2a::card("https://agent.example");
            card.supported_interfaces
                .iter_mut()
                .for_each(|interface| interface.url = url.to_owned());
            let error = binding
                .create(&transports, &card)
                .await
                .err()
                .expect("no transport");
            assert_eq!(failure(&error).kind(), kind, "{binding:?} {url}: {error}");
            assert!(!format!("{error:?}").contains("a-secret"), "{error}");
        }
        let card = bowline_testkit::a2a::card("https://agent.example");
        assert!(binding.create(&transports, &card).await.is_ok());
    }
}

/// An agent that does not know a token challenges; one that does not take it is asked once more
/// with the next one.
#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    for binding in BOTH {
        let fixture = Fixture::open();
        let card = bowline_testkit::a2a::card(&fixture.server.origin());
        let client = fixture.client();
        let source = Successive::new(vec![
            AccessToken::new("stale").unwrap(),
            fixture.token("fresh"),
        ]);
        let transport = binding
            .create(&fixture.transports(&client).source(source), &card)
            .await
            .unwrap();
        assert_eq!(
            say(&*transport, &ServiceParams::new(), "again")
                .await
                .unwrap(),
            "again"
        );
        assert_eq!(fixture.server.counts().requests, 2);

        let source = Successive::new(
            ["stale", "stale-too", "stale-three"]
                .map(|token| AccessToken::new(token).unwrap())
                .into(),
        );
        let transport = binding
            .create(&fixture.transports(&fixture.client()).source(source), &card)
            .await
            .unwrap();
        let error = say(&*transport, &ServiceParams::new(), "again")
            .await
            .unwrap_err();
        assert_eq!(failure(&error).kind(), ErrorKind::Unauthorized, "{error}");
        assert!(failure(&error).www_authenticate()[0].contains("invalid_token"));
        assert_eq!(fixture.server.counts().requests, 4, "never a third time");
    }
}

#[tokio::test]
async fn calls_of_a_method_can_be_proved_one_by_one_and_each_is_counted_by_its_method() {
    for (binding, operations) in [
        (Binding::JsonRpc, operation::JSON_RPC),
        (Binding::HttpJson, operation::HTTP_JSON),
    ] {
        let fixture = Fixture::open();
        let client: Client = fixture.client();
        let claims = RequestBoundCalls::none().for_method("SendMessage");
        let transports = fixture
            .transports(&client)
            .token(fixture.token("a"))
            .request_bound_calls(claims);
        let transport = binding
            .create(
                &transports,
                &bowline_testkit::a2a::card(&fixture.server.origin()),
            )
            .await
            .unwrap();
        every_method(&*transport, None).await;
        say(&*transport, &ServiceParams::new(), "x").await.unwrap();
        let counted = client.stats().operations;
        assert_eq!(counted.len(), 11, "{counted:?}");
        assert!(!counted.contains_key(&operations.other()));
        assert_eq!(counted[&operations.of("SendMessage")].request_bound, 2);
        assert_eq!(counted[&operations.of("GetTask")].request_bound, 0);
        assert_eq!(counted[&operations.of("CancelTask")].requests, 1);
    }
}

//! Push notifications: configured over each binding, and delivered by the official server to an
//! HTTP receiver.

use a2a::{
    AuthenticationInfo, SendMessageConfiguration, StreamResponse, TaskPushNotificationConfig,
    TaskState,
};
use a2a_client::ServiceParams;
use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use bowline_testkit::a2a::{Stepped, agent, card};
use bowline_testkit::peers::{CyclingOptions, PlainServer};
use http::HeaderMap;
use tokio::sync::mpsc;

use crate::binding::{BINDINGS, message};
use crate::fixture::Fixture;
use crate::soon;

/// What the receiver was sent.
struct Delivery {
    fields: HeaderMap,
    event: StreamResponse,
}

/// A web hook.
fn receiver() -> (PlainServer, mpsc::UnboundedReceiver<Delivery>) {
    let (deliver, delivered) = mpsc::unbounded_channel();
    let hook = post(move |fields: HeaderMap, body: Bytes| async move {
        let event = serde_json::from_slice(&body).expect("an event of A2A");
        let _ = deliver.send(Delivery { fields, event });
    });
    (
        PlainServer::start(Router::new().route("/hook", hook)),
        delivered,
    )
}

fn state(event: &StreamResponse) -> TaskState {
    match event {
        StreamResponse::Task(task) => task.status.state.clone(),
        StreamResponse::StatusUpdate(update) => update.status.state.clone(),
        other => panic!("{other:?} has no state"),
    }
}

#[tokio::test]
async fn a_push_configuration_leads_to_notifications_at_its_receiver() {
    for binding in BINDINGS {
        let (hook, mut delivered) = receiver();
        let stepped = Stepped::new();
        let executor = stepped.clone();
        let fixture = Fixture::open_with(CyclingOptions::default(), |origin| {
            agent(executor, card(origin))
        });
        let card = card(&fixture.server.origin());
        let transports = fixture.transports(&fixture.client());
        let transports = transports.token(fixture.token("a"));
        let transport = binding.create(&transports, &card).await.unwrap();
        let params = ServiceParams::new();
        let mut request = message("go");
        request.configuration = Some(SendMessageConfiguration {
            accepted_output_modes: None,
            task_push_notification_config: None,
            history_length: None,
            return_immediately: Some(true),
        });
        soon(transport.send_message(&params, &request))
            .await
            .unwrap();
        let run = stepped.begun(0).await;
        let config = TaskPushNotificationConfig {
            url: format!("{}/hook", hook.origin()),
            id: None,
            task_id: run.id().to_owned(),
            token: Some("the-hook-s-token".to_owned()),
            authentication: Some(AuthenticationInfo {
                scheme: "Bearer".to_owned(),
                credentials: Some("for-the-hook".to_owned()),
            }),
            tenant: None,
        };
        soon(transport.create_push_config(&params, &config))
            .await
            .unwrap();
        run.working();
        run.complete();
        for expected in [TaskState::Working, TaskState::Completed] {
            let Delivery { fields, event } = soon(delivered.recv()).await.unwrap();
            assert_eq!(state(&event), expected, "{binding:?}");
            assert_eq!(fields["a2a-notification-token"], "the-hook-s-token");
            // The receiver's credentials, and not the caller's: nothing of the binding goes there.
            assert_eq!(fields["authorization"], "Bearer for-the-hook");
            assert!(!fields.contains_key(bowline_proof::PROOF_HEADER));
        }
    }
}

use serde_json::json;

use super::*;

fn reads<T: Decode>(value: Value) -> bool {
    T::decode(value).is_ok()
}

#[test]
fn what_is_of_another_kind_is_no_result() {
    let task = json!({ "id": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } });
    let update =
        json!({ "taskId": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } });
    let message = json!({ "messageId": "m", "role": "ROLE_AGENT", "parts": [{ "text": "x" }] });
    let other = json!({ "foo": 1 });
    assert!(reads::<Task>(task.clone()));
    assert!(!reads::<Task>(json!({ "task": task })));
    assert!(!reads::<Task>(other.clone()));
    assert!(reads::<SendMessageResponse>(json!({ "task": task })));
    assert!(reads::<SendMessageResponse>(json!({ "message": message })));
    assert!(!reads::<SendMessageResponse>(json!({ "task": {} })));
    assert!(!reads::<SendMessageResponse>(task.clone()));
    assert!(reads::<StreamResponse>(json!({ "statusUpdate": update })));
    assert!(reads::<StreamResponse>(json!({ "message": message })));
    assert!(!reads::<StreamResponse>(json!({ "statusUpdate": {} })));
    assert!(!reads::<StreamResponse>(json!({ "artifactUpdate": {} })));
    assert!(!reads::<StreamResponse>(json!({ "task": {} })));
    assert!(!reads::<StreamResponse>(other.clone()));
    assert!(!reads::<AgentCard>(other.clone()));
    assert!(!reads::<ListTasksResponse>(other.clone()));
    assert!(reads::<ListTasksResponse>(json!({})));
    assert!(reads::<ListTasksResponse>(json!({ "tasks": [task] })));
    for none in [json!(null), json!([]), json!("x"), json!(1)] {
        assert!(
            !reads::<Task>(none.clone()) && !reads::<ListTasksResponse>(none.clone()),
            "{none}"
        );
    }
}

#[test]
fn fields_that_nobody_knows_yet_are_passed_over() {
    let status = json!({ "state": "TASK_STATE_WORKING", "since": [1] });
    let task = json!({ "id": "t", "mood": "good", "status": status });
    let event = StreamResponse::decode(json!({ "task": task, "weather": {} })).unwrap();
    assert!(matches!(event, StreamResponse::Task(task) if task.id == "t"));
}

#[test]
fn push_configurations_are_read_in_each_form_that_servers_write() {
    let plain = json!({ "taskId": "t", "id": "c", "url": "https://example.com/hook" });
    let snake = json!({
        "task_id": "t",
        "id": "c",
        "url": "https://example.com/hook",
        "authentication": null,
    });
    let expected = TaskPushNotificationConfig::decode(plain.clone()).unwrap();
    assert_eq!(
        (&*expected.task_id, expected.id.as_deref()),
        ("t", Some("c"))
    );
    for list in [
        json!({ "configs": [plain], "nextPageToken": "n" }),
        json!({ "configs": [plain] }),
        json!([plain]),
    ] {
        let read = ListTaskPushNotificationConfigsResponse::decode(list.clone()).unwrap();
        assert_eq!(read.configs, std::slice::from_ref(&expected), "{list}");
        assert_eq!(
            read.next_page_token.is_some(),
            list.get("nextPageToken").is_some()
        );
    }
    let read = TaskPushNotificationConfig::decode(snake).unwrap();
    assert_eq!(read.url, expected.url);
    for none in [
        json!({ "foo": 1 }),
        json!([{ "foo": 1 }]),
        json!({ "configs": [{ "id": "x" }] }),
    ] {
        assert!(!reads::<TaskPushNotificationConfig>(none.clone()));
        assert!(
            !reads::<ListTaskPushNotificationConfigsResponse>(none.clone()),
            "{none}"
        );
    }
    assert!(reads::<ListTaskPushNotificationConfigsResponse>(json!({})));
    assert!(reads::<ListTaskPushNotificationConfigsResponse>(json!([])));
}

#[test]
fn a_byte_order_mark_and_unknown_members_are_ignored() {
    let parsed: Result<Value, _> = parse_json(b"\xef\xbb\xbf{\"id\":\"t\"}");
    assert!(parsed.is_ok_and(|value| value["id"] == "t"));
    assert!(reads::<Task>(
        json!({ "id": "t", "new": { "a": [null] }, "status": { "new": 1 } })
    ));
}

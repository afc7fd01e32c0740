use a2a::Task;
use serde_json::json;

use super::*;

/// The task's id, or what is wrong.
fn read(response_to_7: Value) -> Result<String, String> {
    match response::<Task>("7", response_to_7.to_string().as_bytes()) {
        Ok(task) => Ok(task.id),
        Err(DecodeError::Reported(error)) => Err(format!("{}", error.code)),
        Err(DecodeError::NotA2a(why)) => Err(why),
    }
}

#[test]
fn a_response_has_the_request_s_id_and_a_result_or_an_error() {
    let task = json!({ "id": "t" });
    let error = json!({ "code": -32001, "message": "m" });
    for (given, expected) in [
        (
            json!({ "jsonrpc": "2.0", "id": "7", "result": task }),
            Ok("t"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7", "result": task, "error": null, "x": 1 }),
            Ok("t"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7", "error": error }),
            Err("-32001"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7", "error": error, "result": task }),
            Err("-32001"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": null, "error": error }),
            Err("-32001"),
        ),
        (json!({ "jsonrpc": "2.0", "error": error }), Err("-32001")),
        (
            json!({ "jsonrpc": "2.0", "id": "8", "error": error }),
            Err("it answers another request"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "8", "result": task }),
            Err("it answers another request"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": 7, "result": task }),
            Err("it answers another request"),
        ),
        (
            json!({ "jsonrpc": "2.0", "result": task }),
            Err("it answers another request"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7" }),
            Err("there is no result"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7", "result": null }),
            Err("there is no result"),
        ),
        (
            json!({ "jsonrpc": "2.0", "id": "7", "result": {} }),
            Err("a task without an id"),
        ),
        (
            json!({ "jsonrpc": "1.0", "id": "7", "result": task }),
            Err("it is not JSON-RPC 2.0"),
        ),
        (
            json!({ "id": "7", "result": task }),
            Err("it is not JSON-RPC 2.0"),
        ),
        (
            json!({ "error": { "code": 403, "message": "a gateway's" } }),
            Err("it is not JSON-RPC 2.0"),
        ),
    ] {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(read(given.clone()), expected, "{given}");
    }
    assert!(read(json!([{ "jsonrpc": "2.0", "id": "7", "result": task }])).is_err());
}

#[test]
fn what_answers_nothing_may_have_any_result() {
    for result in [json!(null), json!({}), json!(true)] {
        let given = json!({ "jsonrpc": "2.0", "id": "7", "result": result }).to_string();
        assert!(response::<()>("7", given.as_bytes()).is_ok(), "{given}");
    }
    assert!(response::<()>("7", b"").is_err());
}

#[test]
fn deeply_nested_json_is_rejected_without_a_panic() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":"7","result":{}"#,
        "[".repeat(100_000)
    );
    assert!(matches!(
        response::<Task>("7", deep.as_bytes()),
        Err(DecodeError::NotA2a(_))
    ));
}

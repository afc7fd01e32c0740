use super::*;

#[test]
fn a_response_has_a_result_or_an_error_and_no_method() {
    for (data, expected) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            Some(Response::Result),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
            Some(Response::Error),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"m","params":{"result":1}}"#,
            None,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, None),
        (r#"{"params":{"error":1}}"#, None),
        (r#""result""#, None),
        ("", None),
    ] {
        assert_eq!(Response::parse(data), expected, "{data}");
    }
}

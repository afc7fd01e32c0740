use super::*;

const KNOWN: [&str; 3] = ["url", "request-bound", "token"];

fn table(text: &str) -> Table {
    text.parse().expect("a table")
}

#[test]
fn only_a_table_is_one() {
    for wrong in ["", "1", "\"a\"", "[1]", "{", "{}\nx = 1", "{ a = 1 } }"] {
        assert!(wrong.parse::<Table>().is_err(), "{wrong}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let error = |text: &str| table(text).fields(&KNOWN).err().expect("an error");
    assert!(error("{ request_bound = 1 }").contains("did you mean `request-bound`?"));
    assert!(error("{ zzz = 1 }").contains("the keys are url, request-bound, token"));
    let inner = table("{ token = { sorce = \"x\" } }");
    let fields = inner.fields(&KNOWN).expect("known keys");
    let error = fields.table("token", &["source"]).err().expect("an error");
    assert!(error.contains("did you mean `source`?"), "{error}");
}

#[test]
fn no_message_quotes_a_value() {
    let secret = table("{ url = 7001, request-bound = [7001], token = \"s7001\" }");
    let fields = secret.fields(&KNOWN).expect("known keys");
    let errors = [
        fields.text("url").expect_err("a number"),
        fields.texts("request-bound").expect_err("numbers"),
        fields.table("token", &[]).err().expect("a text"),
        format!("{secret:?}"),
    ];
    for error in errors {
        assert!(!error.contains("7001"), "{error}");
    }
}

#[test]
fn one_text_is_a_list_of_one() {
    let one = table("{ request-bound = \"/a\" }");
    let fields = one.fields(&KNOWN).expect("known keys");
    assert_eq!(fields.texts("request-bound"), Ok(Some(vec!["/a"])));
    assert_eq!(fields.texts("url"), Ok(None));
}

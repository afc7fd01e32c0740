use super::*;

#[test]
fn a_credential_among_the_parameters_is_shown_to_nobody() {
    let names = ["authorization", "Cookie", "x-one"];
    let params: ServiceParams = names
        .map(|name| (name.to_owned(), vec!["a-secret".to_owned()]))
        .into();
    let mut fields = HeaderMap::new();
    write_params(&params, false, &mut fields).unwrap();
    assert!(fields[AUTHORIZATION].is_sensitive() && fields[COOKIE].is_sensitive());
    assert!(!fields["x-one"].is_sensitive());
    let call = OutgoingCall {
        method: methods::GET_TASK,
        params,
    };
    let shown = format!("{call:?}");
    assert!(
        shown.contains("x-one") && !shown.contains("a-secret"),
        "{shown}"
    );
}

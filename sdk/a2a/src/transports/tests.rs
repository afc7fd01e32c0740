use super::*;

#[test]
fn an_invalid_origin_is_reported_without_user_information() {
    for origin in [
        "https://user:secret@a.example",
        "user:secret@a.example",
        "secret a.example",
    ] {
        let client = Client::builder().build().unwrap();
        let failure = Transports::new(client, origin).unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::InvalidCall);
        assert!(!failure.to_string().contains("secret"), "{failure}");
    }
    let client = Client::builder().build().unwrap();
    let failure = Transports::new(client, "a.example:443").unwrap_err();
    assert!(
        failure
            .to_string()
            .contains("\"a.example:443\" is not an origin"),
        "{failure}"
    );
}

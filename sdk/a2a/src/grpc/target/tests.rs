use super::*;

fn origins<const N: usize>(urls: [&'static str; N]) -> [Origin; N] {
    urls.map(|url| Origin::from_uri(&Uri::from_static(url)).unwrap())
}

#[test]
fn host_and_port_are_tls_and_a_path_is_ignored() {
    for (url, origin) in [
        ("agent.example.com:443", "https://agent.example.com:443/"),
        ("agent.example.com", "https://agent.example.com/"),
        ("localhost:50051", "https://localhost:50051/"),
        ("[::1]:50051", "https://[::1]:50051/"),
        ("agent.example.com/a2a/grpc", "https://agent.example.com/"),
        (
            "https://agent.example.com:8443",
            "https://agent.example.com:8443/",
        ),
        (
            "https://agent.example.com/a2a/grpc?x=1",
            "https://agent.example.com/",
        ),
        ("http://127.0.0.1:50051", "http://127.0.0.1:50051/"),
    ] {
        let uri: Uri = absolute_url(url, &[]).parse().unwrap();
        assert_eq!(without_path(&uri).to_string(), origin, "{url}");
    }
}

#[test]
fn host_and_port_are_plaintext_only_if_the_caller_allows_just_that() {
    let here = "127.0.0.1:50051";
    let plain = origins(["http://127.0.0.1:50051"]);
    assert_eq!(absolute_url(here, &plain), "http://127.0.0.1:50051");
    assert_eq!(
        absolute_url("127.0.0.1:50052", &plain),
        "https://127.0.0.1:50052"
    );
    assert_eq!(
        absolute_url("localhost:50051", &plain),
        "https://localhost:50051"
    );
    let both = origins(["http://127.0.0.1:50051", "https://127.0.0.1:50051"]);
    assert_eq!(absolute_url(here, &both), "https://127.0.0.1:50051");
}

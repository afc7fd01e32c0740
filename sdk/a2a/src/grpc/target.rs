//! Where a gRPC interface is.

use std::borrow::Cow;

use bowline_client::Origin;
use http::Uri;
use http::uri::PathAndQuery;

/// A gRPC interface's URL, which is `host:port`, as the specification wants it (A2A
/// `AgentInterface.url`): the SDK takes `http://` off one that has it.
///
/// It is TLS (A2A §10.1), unless plaintext with this host and port is what the transports were made
/// for, and TLS is not.
pub(crate) fn target<'a>(url: &'a str, allowed: &[Origin]) -> Cow<'a, str> {
    if url.contains("://") {
        return url.into();
    }
    let [tls, plain] = ["https", "http"].map(|scheme| format!("{scheme}://{url}"));
    let is_allowed = |url: &str| {
        let origin = url.parse().ok().and_then(|uri| Origin::from_uri(&uri).ok());
        origin.is_some_and(|origin| allowed.contains(&origin))
    };
    match !is_allowed(&tls) && is_allowed(&plain) {
        true => plain.into(),
        false => tls.into(),
    }
}

/// Scheme and authority. A path is passed over, as the stock transport does: a gRPC call's path is
/// `/service/method`, and hardly another client could send anything before it, whatever a card's
/// URL looks like.
pub(crate) fn origin_of(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    // What had scheme and authority has them still.
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins<const N: usize>(urls: [&'static str; N]) -> [Origin; N] {
        urls.map(|url| Origin::from_uri(&Uri::from_static(url)).unwrap())
    }

    #[test]
    fn host_and_port_are_tls_and_a_path_is_passed_over() {
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
            let uri: Uri = target(url, &[]).parse().unwrap();
            assert_eq!(origin_of(&uri).to_string(), origin, "{url}");
        }
    }

    #[test]
    fn host_and_port_are_plaintext_only_if_the_caller_himself_wants_that_there() {
        let here = "127.0.0.1:50051";
        let plain = origins(["http://127.0.0.1:50051"]);
        assert_eq!(target(here, &plain), "http://127.0.0.1:50051");
        assert_eq!(target("127.0.0.1:50052", &plain), "https://127.0.0.1:50052");
        assert_eq!(target("localhost:50051", &plain), "https://localhost:50051");
        let both = origins(["http://127.0.0.1:50051", "https://127.0.0.1:50051"]);
        assert_eq!(target(here, &both), "https://127.0.0.1:50051");
    }
}

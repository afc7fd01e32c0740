//! Where a gRPC interface is.

use std::borrow::Cow;

use http::Uri;

/// A gRPC interface's URL: `host:port`, as the specification wants it (A2A `AgentInterface.url`), is TLS (A2A §10.1).
///
/// Plaintext must be asked for: `http://localhost:port`. It speaks HTTP/2 if the client is built for nothing else.
pub(crate) fn target(url: &str) -> Cow<'_, str> {
    match url.contains("://") {
        true => url.into(),
        false => format!("https://{url}").into(),
    }
}

/// Scheme and authority. A path is passed over, as the stock transport does: a gRPC call's path is `/service/method`, and
/// hardly another client could send anything before it, whatever a card's URL looks like.
pub(crate) fn origin_of(url: &Uri) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    // What had scheme and authority has them still.
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_tls_and_a_path_is_passed_over() {
        for (url, origin) in [
            ("agent.example.com:443", "https://agent.example.com:443/"),
            ("agent.example.com", "https://agent.example.com/"),
            ("localhost:50051", "https://localhost:50051/"),
            ("[::1]:50051", "https://[::1]:50051/"),
            ("https://agent.example.com:8443", "https://agent.example.com:8443/"),
            ("https://agent.example.com/a2a/grpc?x=1", "https://agent.example.com/"),
            ("http://127.0.0.1:50051", "http://127.0.0.1:50051/"),
        ] {
            let uri: Uri = target(url).parse().unwrap();
            assert_eq!(origin_of(&uri).to_string(), origin, "{url}");
        }
    }
}

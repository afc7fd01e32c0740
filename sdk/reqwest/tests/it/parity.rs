//! reqwest itself is the reference: the same request arrives, and the same response is returned.

use bowline_http_client::HttpVersions;
use bowline_reqwest::Transport;
use futures_util::StreamExt;
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::fixture::{BOTH, Fixture};

type Build = fn(RequestBuilder) -> RequestBuilder;

/// Requests that a conversion could change, each in another way.
const REQUESTS: [(Method, &str, Build); 12] = [
    (Method::GET, "/mirror", |r| r),
    (Method::GET, "/mirror?q=a%2Fb&q=c+d&e=", |r| {
        r.header("x-one", "1").header("x-one", "2")
    }),
    (Method::HEAD, "/mirror", |r| r),
    (Method::OPTIONS, "/mirror", |r| r),
    (Method::DELETE, "/mirror/../mirror", |r| r),
    (Method::POST, "/mirror", |r| r),
    (Method::POST, "/mirror", |r| r.body("")),
    (Method::POST, "/mirror", |r| {
        r.json(&json!({ "json": true }))
    }),
    (Method::PUT, "/mirror", |r| {
        r.header("content-type", "text/plain").body("text")
    }),
    (Method::PATCH, "/mirror", |r| r.body(stream())),
    (Method::GET, "/teapot", |r| r),
    (Method::GET, "/nothing", |r| r),
];

fn stream() -> Body {
    let chunks = futures_util::stream::iter(["of ", "unknown ", "length"]);
    Body::wrap_stream(chunks.map(Ok::<_, std::io::Error>))
}

#[tokio::test]
async fn requests_arrive_and_responses_read_as_with_reqwest_itself() {
    let fixture = Fixture::new();
    let server = fixture.open_server();
    for http in BOTH {
        let reqwest = reqwest(&fixture, http);
        let transport: Transport = fixture.transport_over(http);
        for (method, path, build) in REQUESTS {
            let url = format!("{}{path}", server.origin());
            let request = || {
                build(reqwest.request(method.clone(), &url))
                    .build()
                    .unwrap()
            };
            let expected = read(reqwest.execute(request()).await.unwrap()).await;
            let found = read(transport.execute(request()).await.unwrap()).await;
            assert_eq!(found, expected, "{method} {path} over {http:?}");
        }
    }
}

/// reqwest with the same trust and without a client certificate.
fn reqwest(fixture: &Fixture, http: HttpVersions) -> Client {
    let ca = Certificate::from_pem(fixture.pki.ca_pem().as_bytes()).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy();
    match http {
        HttpVersions::Http1 => builder.http1_only(),
        _ => builder,
    }
    .build()
    .unwrap()
}

/// Everything that a caller can read from a response.
async fn read(response: Response) -> Value {
    let mut headers: Vec<_> = response
        .headers()
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    json!({
        "status": response.status().as_u16(),
        "version": format!("{:?}", response.version()),
        "url": response.url().as_str(),
        "headers": headers,
        "content_length": response.content_length(),
        "body": response.text().await.unwrap(),
    })
}

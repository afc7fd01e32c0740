//! reqwest itself is the reference: what it sends for a request, and what it makes of the response.

use bowline_client::HttpVersions;
use bowline_reqwest::Transport;
use futures_util::StreamExt;
use reqwest::{Body, Certificate, Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::house::{BOTH, House};

type Make = fn(RequestBuilder) -> RequestBuilder;

/// Requests that differ in what a conversion could lose.
const REQUESTS: [(Method, &str, Make); 12] = [
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
    let house = House::new();
    let server = house.open_server();
    for http in BOTH {
        let reqwest = reqwest(&house, http);
        let transport: Transport = house.transport_over(http);
        for (method, path, make) in REQUESTS {
            let url = format!("{}{path}", server.origin());
            let request = || make(reqwest.request(method.clone(), &url)).build().unwrap();
            let expected = read(reqwest.execute(request()).await.unwrap()).await;
            let answered = read(transport.execute(request()).await.unwrap()).await;
            assert_eq!(answered, expected, "{method} {path} over {http:?}");
        }
    }
}

/// reqwest with the same trust, and nothing to prove.
fn reqwest(house: &House, http: HttpVersions) -> Client {
    let ca = Certificate::from_pem(house.pki.ca_pem().as_bytes()).unwrap();
    let builder = Client::builder().tls_certs_only([ca]).no_proxy();
    match http {
        HttpVersions::Http1 => builder.http1_only(),
        _ => builder,
    }
    .build()
    .unwrap()
}

/// All that a caller can learn of a response.
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

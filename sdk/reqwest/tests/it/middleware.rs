//! In a stack of middlewares: what still happens around it, and what no longer does below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_client::{Operation, Protocol};
use bowline_reqwest::Transport;
use bowline_testkit::peers::CyclingOptions;
use http::{Extensions, HeaderMap, HeaderValue};
use reqwest::{Proxy, Request, Response};
use reqwest_middleware::{
    ClientBuilder, ClientWithMiddleware, Extension, Middleware, Next, RequestBuilder, Result,
};

use crate::house::House;

/// Sends every request twice, and gives the second response.
pub(crate) struct Twice;

#[async_trait::async_trait]
impl Middleware for Twice {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let again = request.try_clone().expect("no streamed body");
        next.clone().run(request, extensions).await?.bytes().await?;
        next.run(again, extensions).await
    }
}

/// Counts what passes.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Counting {
    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[async_trait::async_trait]
impl Middleware for Counting {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        self.0.fetch_add(1, Ordering::Relaxed);
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn middlewares_before_it_see_every_sending_and_those_after_it_none() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let [above, between, below] = [
        Counting::default(),
        Counting::default(),
        Counting::default(),
    ];
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(above.clone())
        .with(Twice)
        .with(between.clone())
        .with(house.transport())
        .with(below.clone())
        .build();
    for _ in 0..3 {
        let url = format!("{}/mirror", server.origin());
        let response = stack
            .get(&url)
            .bearer_auth(house.token("a").secret())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.url().as_str(), url);
    }
    assert_eq!([above.count(), between.count(), below.count()], [3, 6, 0]);
    assert_eq!(house.seen.all().len(), 6);
}

#[tokio::test]
async fn nothing_that_the_inner_client_does_when_it_sends_is_done() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let mut defaults = HeaderMap::new();
    defaults.insert("x-one", HeaderValue::from_static("default"));
    // It trusts another authority, has no certificate, leads nowhere and gives up before it starts.
    let inner = reqwest::Client::builder()
        .default_headers(defaults)
        .user_agent("inner/1")
        .proxy(Proxy::all("http://127.0.0.1:9").unwrap())
        .timeout(Duration::from_nanos(1))
        .read_timeout(Duration::from_nanos(1))
        .build()
        .unwrap();
    let stack = ClientBuilder::new(inner).with(house.transport()).build();

    let response = get(&house, &stack, &format!("{}/redirect", server.origin())).await;

    assert_eq!(response.status(), 303);
    let seen = house.seen.all();
    assert_eq!(seen.len(), 1, "no redirect was followed");
    for name in ["x-one", "user-agent", "accept", "accept-encoding"] {
        assert!(!seen[0].headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_initialisers_put_on_a_request_is_sent() {
    const THINGS: Operation = Operation::new(Protocol::HTTP, "things");
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let client = house.client();
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with_init(|request: RequestBuilder| request.header("user-agent", "agent/1"))
        .with_init(Extension(THINGS))
        .with(Transport::new(client.clone()))
        .build();

    let response = get(&house, &stack, &server.origin()).await;

    assert_eq!(response.status(), 404);
    assert_eq!(house.seen.all()[0].headers["user-agent"], "agent/1");
    assert_eq!(client.stats().operations[&THINGS].requests, 1);
}

#[tokio::test]
async fn a_token_may_come_in_the_extensions_of_the_stack_and_beats_the_requests_own() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(house.transport())
        .build();
    let (own, stacks) = (house.token("the request's"), house.token("the stack's"));
    let request = http::Request::get(format!("{}/nothing", server.origin()))
        .extension(own)
        .body("")
        .unwrap();
    let mut extensions = Extensions::new();
    extensions.insert(stacks.clone());

    let request = Request::try_from(request).unwrap();
    let response = stack
        .execute_with_extensions(request, &mut extensions)
        .await
        .unwrap();

    assert_eq!(response.status(), 204);
    assert_eq!(
        house.seen.all()[0].headers["authorization"],
        *stacks.authorization()
    );
}

#[tokio::test]
async fn it_can_be_an_object_among_others() {
    let house = House::new();
    let server = house.server(CyclingOptions::default());
    let counting = Counting::default();
    let stack: Vec<Arc<dyn Middleware>> =
        vec![Arc::new(counting.clone()), Arc::new(house.transport())];
    let stack = ClientWithMiddleware::new(reqwest::Client::new(), stack);

    let response = get(&house, &stack, &format!("{}/nothing", server.origin())).await;

    assert_eq!((response.status().as_u16(), counting.count()), (204, 1));
}

async fn get(house: &House, stack: &ClientWithMiddleware, url: &str) -> Response {
    let request = stack.get(url).bearer_auth(house.token("a").secret());
    request.send().await.expect("a response")
}

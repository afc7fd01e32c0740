//! In a stack of middlewares: which of them run, and which settings of the inner client apply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bowline_http_client::{Operation, Protocol};
use bowline_reqwest::Transport;
use bowline_testkit::peers::CyclingOptions;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Extensions, HeaderMap, HeaderValue};
use reqwest::{Proxy, Request, Response};
use reqwest_middleware::{
    ClientBuilder, ClientWithMiddleware, Extension, Middleware, Next, RequestBuilder, Result,
};

use crate::fixture::Fixture;

/// Sends every request twice, and returns the second response.
pub(crate) fn twice<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> BoxFuture<'a, Result<Response>> {
    let again = request.try_clone().expect("no streamed body");
    async move {
        next.clone().run(request, extensions).await?.bytes().await?;
        next.run(again, extensions).await
    }
    .boxed()
}

/// Counts the requests that pass through it.
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
async fn middlewares_before_it_see_every_attempt_and_those_after_it_none() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let [above, between, below] = [
        Counting::default(),
        Counting::default(),
        Counting::default(),
    ];
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(above.clone())
        .with(twice)
        .with(between.clone())
        .with(fixture.transport())
        .with(below.clone())
        .build();
    for _ in 0..3 {
        let url = format!("{}/mirror", server.origin());
        let response = stack
            .get(&url)
            .bearer_auth(fixture.token("a").secret())
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.url().as_str(), url);
    }
    assert_eq!([above.count(), between.count(), below.count()], [3, 6, 0]);
    assert_eq!(fixture.log.all().len(), 6);
}

#[tokio::test]
async fn the_inner_clients_settings_for_sending_do_not_apply() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let mut defaults = HeaderMap::new();
    defaults.insert("x-one", HeaderValue::from_static("default"));
    // It trusts another authority, has no certificate, an unusable proxy and time-outs of 1 ns.
    let inner = reqwest::Client::builder()
        .default_headers(defaults)
        .user_agent("inner/1")
        .proxy(Proxy::all("http://127.0.0.1:9").unwrap())
        .timeout(Duration::from_nanos(1))
        .read_timeout(Duration::from_nanos(1))
        .build()
        .unwrap();
    let stack = ClientBuilder::new(inner).with(fixture.transport()).build();

    let response = get(&fixture, &stack, &format!("{}/redirect", server.origin())).await;

    assert_eq!(response.status(), 303);
    let seen = fixture.log.all();
    assert_eq!(seen.len(), 1, "no redirect was followed");
    for name in ["x-one", "user-agent", "accept", "accept-encoding"] {
        assert!(!seen[0].headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn what_initialisers_add_to_a_request_is_sent() {
    const THINGS: Operation = Operation::new(Protocol::HTTP, "things");
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let client = fixture.client();
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with_init(|request: RequestBuilder| request.header("user-agent", "agent/1"))
        .with_init(Extension(THINGS))
        .with(Transport::new(client.clone()))
        .build();

    let response = get(&fixture, &stack, &server.origin()).await;

    assert_eq!(response.status(), 404);
    assert_eq!(fixture.log.all()[0].headers["user-agent"], "agent/1");
    assert_eq!(client.stats().operations[&THINGS].requests, 1);
}

#[tokio::test]
async fn a_token_in_the_extensions_of_the_stack_wins_over_the_requests_own() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let stack = ClientBuilder::new(reqwest::Client::new())
        .with(fixture.transport())
        .build();
    let (own, stacks) = (fixture.token("the request's"), fixture.token("the stack's"));
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
        fixture.log.all()[0].headers["authorization"],
        *stacks.authorization()
    );
}

#[tokio::test]
async fn it_can_be_a_trait_object() {
    let fixture = Fixture::new();
    let server = fixture.server(CyclingOptions::default());
    let counting = Counting::default();
    let stack: Vec<Arc<dyn Middleware>> =
        vec![Arc::new(counting.clone()), Arc::new(fixture.transport())];
    let stack = ClientWithMiddleware::new(reqwest::Client::new(), stack);

    let response = get(&fixture, &stack, &format!("{}/nothing", server.origin())).await;

    assert_eq!((response.status().as_u16(), counting.count()), (204, 1));
}

async fn get(fixture: &Fixture, stack: &ClientWithMiddleware, url: &str) -> Response {
    let request = stack.get(url).bearer_auth(fixture.token("a").secret());
    request.send().await.expect("a response")
}

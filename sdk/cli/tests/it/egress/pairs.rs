//! Every name that a request has, in all combinations of allowed and other origins: a token reaches
//! the origin that all of them name, or none (GW-6).

#![allow(clippy::print_stdout, reason = "the table is there to be read")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use bowline_testkit::peers::CyclingServer;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::intercepted::{careless, connect};
use crate::agents::{Seen, Service, World, authority};

/// Two allowed origins. Their tokens are not bound to anything, so that nothing but the egress keeps
/// them apart.
struct Pairs {
    service: Service,
    a: String,
    b: String,
    /// What each of the origins has seen.
    seen: [Seen; 2],
    /// (way, status or "no answer") and how often.
    counts: BTreeMap<(&'static str, String), u32>,
    number: u32,
    expected: [u32; 2],
    _servers: (World, CyclingServer),
}

impl Pairs {
    async fn new(name: &str, upstream: bool) -> Self {
        let world = World::new(name);
        let (other, other_seen) = world.another(Router::new());
        let dir = world.file("authority").display().to_string();
        let (origin, second) = (world.server.origin(), other.origin());
        let mut command = world.egress(&["--allow", &second, "--intercept", &dir]);
        if upstream {
            command.args(["--upstream", &origin]);
        }
        let service = Service::on_port(&mut command).await;
        Self {
            service,
            a: authority(&origin),
            b: authority(&second),
            seen: [world.seen.clone(), other_seen],
            counts: BTreeMap::new(),
            number: 0,
            expected: [0, 0],
            _servers: (world, other),
        }
    }

    /// A request whose token says for whom it is. `meant`: the origin that all of its names are, if
    /// they are of one.
    fn request(
        &mut self,
        target: &str,
        host: Option<&str>,
        meant: Option<&str>,
    ) -> Request<Empty<Bytes>> {
        self.number += 1;
        let whom = match meant {
            Some(name) if name == self.a => "0",
            Some(name) if name == self.b => "1",
            _ => "nobody",
        };
        let token = format!("Bearer opaque-{}-for-{whom}", self.number);
        let mut request = Request::get(target.parse::<Uri>().expect(target));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let request = request.header("authorization", token);
        request.body(Empty::new()).expect("a request")
    }

    /// Notes what became of a request.
    fn note(&mut self, way: &'static str, case: &str, status: Option<u16>, meant: Option<&str>) {
        let text = status.map_or("no answer".to_owned(), |status| status.to_string());
        *self.counts.entry((way, text)).or_default() += 1;
        match meant {
            Some(meant) => {
                assert_eq!(status, Some(200), "{way} {case}");
                self.expected[usize::from(meant != self.a)] += 1;
            }
            None => assert_ne!(status, Some(200), "{way} {case}"),
        }
    }

    /// Each origin has seen the tokens that are for it, and no other.
    async fn check(self) {
        for (at, seen) in self.seen.iter().enumerate() {
            let tokens = seen.tokens();
            let other = tokens
                .iter()
                .find(|token| !token.ends_with(&format!("-for-{at}")));
            assert_eq!(other, None, "at origin {at}");
            assert_eq!(tokens.len(), self.expected[at] as usize, "at origin {at}");
        }
        println!("way                     answer     requests");
        for ((way, status), count) in &self.counts {
            println!("{way:<23} {status:<10} {count}");
        }
        let [a, b] = self.expected;
        println!(
            "{} requests; tokens at the origins: {a}, {b}; at another: 0",
            self.number
        );
        self.service.end().await;
    }

    /// A connection to the inside of a tunnel.
    async fn inside(&self, target: &str, config: &ClientConfig, sni: &str) -> TlsStream<TcpStream> {
        let (status, socket) = connect(&self.service.address, target).await;
        assert_eq!(status, 200, "{target}");
        let name = ServerName::try_from(sni.to_owned()).expect("a name");
        let connector = TlsConnector::from(Arc::new(config.clone()));
        connector.connect(name, socket).await.expect("a handshake")
    }
}

/// An authority as it is compared: `localhost.:PORT` and `LOCALHOST:PORT` are `localhost:PORT`.
fn plain(authority: &str) -> String {
    let authority = authority.to_ascii_lowercase();
    match authority.split_once(':') {
        Some((host, port)) => format!("{}:{port}", host.trim_end_matches('.')),
        None => authority,
    }
}

/// A name of each kind: the two allowed origins, other ways to write the first, and what they are not.
fn names(a: &str, b: &str) -> Vec<String> {
    let port = a.split_once(':').expect("a port").1;
    [
        a,
        b,
        &a.to_uppercase(),
        &format!("localhost.:{port}"),
        "localhost",
        "localhost:443",
        &format!("127.0.0.1:{port}"),
        &format!("other.example:{port}"),
        "other.example",
    ]
    .map(str::to_owned)
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_6_inside_a_tunnel_over_http_1_all_names_agree_or_no_token_goes_out() {
    let mut pairs = Pairs::new("pairs-h1", false).await;
    let (a, b) = (pairs.a.clone(), pairs.b.clone());
    let names = names(&a, &b);
    for tunnel in &names {
        let allowed = [&a, &b].into_iter().find(|name| **name == plain(tunnel));
        let Some(origin) = allowed else {
            // No port is no target of CONNECT; another host would be a tunnel.
            let (status, _) = connect(&pairs.service.address, tunnel).await;
            assert!(matches!(status, 400 | 403), "{tunnel}: {status}");
            let meant = None;
            pairs.note("CONNECT", tunnel, Some(status), meant);
            continue;
        };
        for (sni, has_sni) in [
            ("localhost", true),
            ("other.example", true),
            ("localhost", false),
        ] {
            // All of them on one connection: a refusal changes nothing for the next request.
            let io = pairs.inside(tunnel, &careless(has_sni), sni).await;
            let (mut sender, driver) = http1::handshake(TokioIo::new(io)).await.expect("HTTP");
            tokio::spawn(driver);
            for scheme in [None, Some("https"), Some("http")] {
                for target in &names {
                    for host in &names {
                        let url = match scheme {
                            // Only one of the targets is needed where it is not sent.
                            None if target != &names[0] => continue,
                            None => "/".to_owned(),
                            Some(scheme) => format!("{scheme}://{target}/"),
                        };
                        let agrees = sni == "localhost"
                            && has_sni
                            && plain(host) == *origin
                            && (scheme.is_none() || plain(target) == *origin)
                            && scheme != Some("http");
                        let meant = agrees.then_some(origin.as_str());
                        let request = pairs.request(&url, Some(host), meant);
                        sender.ready().await.expect("the connection of before");
                        let response = sender.send_request(request).await.expect("an answer");
                        let status = response.status().as_u16();
                        response.into_body().collect().await.expect("a body");
                        let case = format!("{tunnel} {sni} {has_sni} {url} {host}");
                        pairs.note("inside, HTTP/1.1", &case, Some(status), meant);
                    }
                }
            }
        }
    }
    pairs.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_6_inside_a_tunnel_over_http_2_all_names_agree_or_no_token_goes_out() {
    let mut pairs = Pairs::new("pairs-h2", false).await;
    let (a, b) = (pairs.a.clone(), pairs.b.clone());
    let names = names(&a, &b);
    for origin in [&a, &b] {
        for (sni, has_sni) in [
            ("localhost", true),
            ("other.example", true),
            ("localhost", false),
        ] {
            let mut config = careless(has_sni);
            config.alpn_protocols = vec![b"h2".to_vec()];
            let io = pairs.inside(origin, &config, sni).await;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(io));
            let (mut sender, driver) = handshake.await.expect("HTTP/2");
            tokio::spawn(driver);
            for scheme in ["https", "http"] {
                for target in &names {
                    let hosts = names.iter().map(|name| Some(name.as_str()));
                    for host in hosts.chain([None]) {
                        let agrees = sni == "localhost"
                            && has_sni
                            && scheme == "https"
                            && plain(target) == *origin
                            && host.is_none_or(|host| plain(host) == *origin);
                        let meant = agrees.then_some(origin.as_str());
                        let url = format!("{scheme}://{target}/");
                        let request = pairs.request(&url, host, meant);
                        // A stream that is reset is an error of its own, and the connection stays.
                        let answered = sender.send_request(request).await;
                        let status = answered.ok().map(|response| response.status().as_u16());
                        let case = format!("{origin} {sni} {has_sni} {url} {host:?}");
                        pairs.note("inside, HTTP/2", &case, status, meant);
                    }
                }
            }
            // RFC 8441: a CONNECT that names a protocol.
            let mut request = pairs.request(&format!("https://{origin}/"), None, None);
            *request.method_mut() = http::Method::CONNECT;
            let websocket = hyper::ext::Protocol::from_static("websocket");
            request.extensions_mut().insert(websocket);
            let answered = sender.send_request(request).await;
            let status = answered.ok().map(|response| response.status().as_u16());
            pairs.note(":protocol, HTTP/2", origin, status, None);
        }
    }
    pairs.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gw_6_an_absolute_target_and_host_agree_or_no_token_goes_out() {
    for upstream in [false, true] {
        let mut pairs = Pairs::new("pairs-direct", upstream).await;
        let (a, b) = (pairs.a.clone(), pairs.b.clone());
        let own = pairs.service.address.clone();
        let mut names = names(&a, &b);
        names.push(own.clone());
        for scheme in [None, Some("http"), Some("https")] {
            for target in &names {
                for host in &names {
                    let url = match scheme {
                        None if target != &names[0] => continue,
                        None => "/".to_owned(),
                        Some(scheme) => format!("{scheme}://{target}/"),
                    };
                    let origin = match scheme {
                        Some("http") => [&a, &b]
                            .into_iter()
                            .find(|name| **name == plain(target) && **name == plain(host)),
                        // As to a server: the one origin, by its name or the listener's.
                        None if upstream => Some(&a).filter(|_| plain(host) == a || *host == own),
                        _ => None,
                    };
                    let meant = origin.map(String::as_str);
                    let request = pairs.request(&url, Some(host), meant);
                    let io = TokioIo::new(TcpStream::connect(&own).await.expect("the egress"));
                    let (mut sender, driver) = http1::handshake(io).await.expect("HTTP");
                    tokio::spawn(driver);
                    let answered = sender.send_request(request).await;
                    let status = answered.ok().map(|response| response.status().as_u16());
                    let way = match upstream {
                        false => "as to a proxy",
                        true => "with --upstream",
                    };
                    pairs.note(way, &format!("{url} {host}"), status, meant);
                }
            }
        }
        pairs.check().await;
    }
}

/// What the agent makes of it is the agent's decision, and then another request.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_origin_is_passed_on_and_not_followed() {
    let world = World::new("pairs-redirect");
    let (other, other_seen) = world.another(Router::new());
    let location = format!("{}/there", other.origin());
    let to = location.clone();
    let routes = Router::new().route("/away", get(async move || Redirect::temporary(&to)));
    let (server, _) = world.another(routes);
    let mut command = world.egress(&["--allow", &other.origin(), "--allow", &server.origin()]);
    let service = Service::on_port(&mut command).await;
    let host = authority(&server.origin());
    let request = crate::agents::request("GET", &format!("http://{host}/away"), &host, "opaque");
    let answer = service.say(&request).await;
    assert!(answer.starts_with("HTTP/1.1 307"), "{answer}");
    assert!(
        answer.contains(&format!("location: {location}\r\n")),
        "{answer}"
    );
    assert_eq!(other_seen.tokens().len(), 0);
    assert_eq!(other.counts().requests, 0);
    service.end().await;
}

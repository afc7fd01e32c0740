//! Sockets on which nothing is said.

use bowline_testkit::tls::{Alpn, TlsOptions};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::admin::Admin;
use crate::ingress::fixture::*;

/// How many there are; twice as many as there are places. `just idle-sockets` has 10,000.
fn sockets() -> usize {
    std::env::var("BOWLINE_SOCKETS").map_or(400, |number| number.parse().expect("a number"))
}

/// No more than this for each place, and as much again at the start.
const KIB_A_PLACE: u64 = 64;
const KIB_AT_START: u64 = 64 * 1024;

/// Before the handshake, and with a trusted certificate after it.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "the figures are there to be read")]
async fn idle_sockets_are_bounded_and_counted_and_the_next_request_is_served() {
    // The ingress inherits it.
    rlimit::increase_nofile_limit(u64::MAX).expect("file descriptors");
    let sockets = sockets();
    for handshake in [false, true] {
        let (scene, upstream) = (Scene::new(), Upstream::echo());
        let (admin, places) = (Admin::in_(&scene), (sockets / 2).to_string());
        let options = [
            ["--max-connections", &places],
            ["--handshake-timeout", "2s"],
            ["--admin", &admin.option()],
        ];
        let ingress = scene.start(&upstream, &options.concat()).await;
        let (mut silent, mut shaken) = (Vec::new(), Vec::new());
        for _ in 0..sockets {
            if handshake {
                // Refused, or closed for another one: what remains is what is asked for here.
                shaken.extend(connect(&scene, &ingress).await);
            } else {
                silent.push(TcpStream::connect(ingress.addr).await.unwrap());
            }
        }
        let resident = ingress.resident_kib();
        let served = within(async {
            let mut attempts = 1;
            // Silent handshakes are cancelled after a second, idle connections give way after ten.
            while !is_served(&scene, &ingress).await {
                attempts += 1;
            }
            attempts
        });
        let attempts = served.await;
        let metrics = admin.get("/metrics").await.1;
        // A limit was reached, or the handshake did not come in time.
        let counts = ["limits_reached_total", "handshakes_failed_total"];
        let counted: u64 = metrics
            .lines()
            .filter(|line| {
                counts
                    .iter()
                    .any(|name| line.contains(&format!("bowline_server_{name}{{")))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        println!(
            "{sockets} sockets ({} with a handshake), {places} places: {resident} KiB resident, {counted} \
             counted, a request served at attempt {attempts}",
            shaken.len(),
        );
        assert!(counted > 0, "{metrics}");
        assert!(resident < KIB_AT_START + KIB_A_PLACE * sockets as u64 / 2);
    }
}

async fn connect(scene: &Scene, ingress: &Ingress) -> Option<TlsStream<TcpStream>> {
    let config = TlsOptions::alpn(Alpn::Http2).client(&scene.pki, Some(&scene.agent));
    let tcp = TcpStream::connect(ingress.addr).await.ok()?;
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(config).connect(name, tcp))
        .await
        .ok()
}

/// A connection, and a request with a proof on it.
async fn is_served(scene: &Scene, ingress: &Ingress) -> bool {
    let Some(stream) = connect(scene, ingress).await else {
        return false;
    };
    let mut client = Http::over(stream).await;
    let token = scene.session_bound();
    let request = client.proved(&scene.agent, &token).body(whole("")).unwrap();
    match client.send(request).await {
        Ok(response) => {
            Answer::read(response).await.arrived();
            true
        }
        // TLS 1.3 tells the client only now that the server has closed.
        Err(_) => false,
    }
}

//! A token of one origin's source never reaches another origin, whatever way a request takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::net::{Net, Site, ask, claims, table};
use crate::agents::Service;

/// The ways in which an agent can name an origin, and a second one where there is room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// `http://target` and `Host: host`.
    Absolute,
    /// HTTP/2 with an authority and a `Host`.
    H2c,
    /// A path, and `Host: host`, at the reverse proxy for the first origin.
    Reverse,
    /// `CONNECT target`, TLS with its name, and `Host: host` within.
    Connect,
    /// `CONNECT target`, and within it `https://host/`.
    ConnectAbsolute,
}

pub(super) const WAYS: [Way; 5] = [
    Way::Absolute,
    Way::H2c,
    Way::Reverse,
    Way::Connect,
    Way::ConnectAbsolute,
];

pub(super) struct Agent<'a> {
    pub(super) egress: &'a Service,
    pub(super) tls: &'a TlsConnector,
}

impl Agent<'_> {
    pub(super) async fn try_to(
        &self,
        way: Way,
        target: &str,
        host: &str,
        token: Option<&str>,
    ) -> u16 {
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let authorization = authorization.unwrap_or_default();
        let rest = format!("Host: {host}\r\n{authorization}Connection: close\r\n\r\n");
        let text = match way {
            Way::Absolute => {
                self.egress
                    .say(&format!("GET http://{target}/x HTTP/1.1\r\n{rest}"))
                    .await
            }
            Way::Reverse => self.egress.say(&format!("GET /x HTTP/1.1\r\n{rest}")).await,
            Way::H2c => return self.h2c(target, host, token).await,
            Way::Connect => {
                self.connect(target, &format!("GET /x HTTP/1.1\r\n{rest}"))
                    .await
            }
            Way::ConnectAbsolute => {
                self.connect(target, &format!("GET https://{host}/x HTTP/1.1\r\n{rest}"))
                    .await
            }
        };
        super::net::answered(&text).status
    }

    async fn h2c(&self, target: &str, host: &str, token: Option<&str>) -> u16 {
        let mut sender = self.egress.h2c::<Full<Bytes>>().await;
        let mut request = Request::get(format!("http://{target}/x"));
        if host != target {
            request = request.header("host", host);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::default()).expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status().as_u16();
        response.into_body().collect().await.expect("a body");
        status
    }

    async fn connect(&self, target: &str, request: &str) -> String {
        let mut io = self.egress.connect().await;
        let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        io.write_all(connect.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("UTF-8");
        assert!(head.contains(" 200 "), "{head}");
        let name = target.split(':').next().expect("a host").to_owned();
        let name = ServerName::try_from(name).expect("a name");
        let mut tls = self.tls.connect(name, io).await.expect("a handshake");
        tls.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        // Closed without a word by some servers.
        let _ = tls.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("UTF-8")
    }
}

pub(super) fn trusting(root: &std::path::Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(root).expect("a file") {
        roots.add(root.expect("PEM")).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Two egresses for two agents with sources of their own; three origins: a file, an authorization
/// server, the caller's own token. Every way, each pair of names, with and without a token.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the counts")]
async fn a_token_of_one_origin_never_reaches_another() {
    let nets = [Net::new("reach-one"), Net::new("reach-two")];
    // The same three origins for both.
    let sites = [nets[0].site(), nets[0].site(), nets[0].site()];
    let mut egresses = Vec::new();
    for (number, net) in nets.iter().enumerate() {
        let path = net.write("token", &format!("file-of-{number}"));
        let oauth = format!("source = \"oauth\", {}", nets[0].at_authority());
        let tables = [
            table(&sites[0], &format!("source = \"file\", path = {path:?}")),
            table(&sites[1], &oauth),
            table(&sites[2], ""),
        ];
        // The certificate and the authorities are those of the first.
        let mut command = nets[0].bowline("egress", &tables.concat());
        let intercept = net.file("intercept");
        command.args(["--upstream", &sites[0].origin()]);
        command.arg("--intercept").arg(&intercept);
        let egress = Service::on_port(&mut command).await;
        egresses.push((egress, trusting(&intercept.join("root.pem"))));
    }
    let names: Vec<String> = sites.iter().map(Site::authority).collect();
    let mut counts: BTreeMap<(Way, u16), usize> = BTreeMap::new();
    let mut asked = 0;
    for (number, (egress, tls)) in egresses.iter().enumerate() {
        let agent = Agent { egress, tls };
        let brought = format!("brought-by-{number}");
        for way in WAYS {
            for target in &names {
                for host in &names {
                    for token in [None, Some(brought.as_str())] {
                        let status = agent.try_to(way, target, host, token).await;
                        *counts.entry((way, status)).or_default() += 1;
                        asked += 1;
                    }
                }
            }
        }
    }
    for ((way, status), count) in &counts {
        println!("{way:?}: {status}: {count}");
    }
    let seen: Vec<BTreeSet<String>> = sites
        .iter()
        .map(|site| site.tokens().into_iter().collect())
        .collect();
    let named = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(seen[0], named(&["file-of-0", "file-of-1"]));
    assert_eq!(seen[2], named(&["brought-by-0", "brought-by-1"]));
    // Two agents, one token each of the authorization server, for that origin alone.
    assert_eq!(seen[1].len(), 2, "one for each egress");
    for token in &seen[1] {
        assert_eq!(claims(token)["aud"], sites[1].origin());
    }
    let arrived: usize = sites.iter().map(|site| site.arrived().len()).sum();
    println!("{asked} requests, {arrived} arrived");
    assert_eq!(asked, 2 * WAYS.len() * 9 * 2);
    let served: usize = counts
        .iter()
        .filter(|((_, status), _)| *status == 200)
        .map(|(_, count)| count)
        .sum();
    assert_eq!(arrived, served, "what was refused did not arrive");
    // Of each way some passed and some were refused, so the check can fail.
    for way in WAYS {
        assert!(counts.contains_key(&(way, 200)), "{way:?}");
        assert!(
            counts
                .keys()
                .any(|(of, status)| *of == way && *status != 200),
            "{way:?}"
        );
    }
    // A token in the target, or a name of a user in it, changes nothing.
    let url = format!("{}/x?access_token=brought", sites[0].origin());
    let answer = ask(&egresses[0].0, "GET", &url, &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(sites[0].tokens().last().expect("one"), "file-of-0");
}

//! T1, T2, T3, T4 and T7 acted out with a certificate-bound token, as authorization servers issue
//! them today: each with the victim's proof, without a proof, and with one of the thief's own where
//! they could make one.

use std::sync::Arc;

use bowline_proof::{AccessToken, ExporterValue, PROOF_HEADER, Proof};
use bowline_testkit::pki::Leaf;
use bowline_testkit::tls::{Alpn, TlsOptions};
use http::Request;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fixture::*;

/// A theft: of what, and how it is used.
struct Theft {
    name: &'static str,
    /// With whose certificate the thief connects.
    certificate: Certificate,
    proof: Sent,
    /// Under `require-proof`. `None`: the handshake.
    refused_by: Option<&'static str>,
    /// Under `follow`.
    passes_under_follow: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Certificate {
    /// The victim's: their key was used for the handshake, by software that they were tricked into
    /// running, or of another process of theirs.
    Victims,
    /// The same, with a stolen ticket and without the key.
    Ticket,
    Own,
    None,
}

#[derive(Clone, Copy)]
enum Sent {
    Nothing,
    Stolen,
    /// Signed by the thief's own key, over the exporter value of the thief's own connection.
    Own,
}

const THEFTS: [Theft; 12] = {
    use Certificate::{None as NoCertificate, Own as OwnCertificate, Ticket, Victims};
    use Sent::{Nothing, Own, Stolen};
    const fn theft(
        name: &'static str,
        certificate: Certificate,
        proof: Sent,
        refused_by: Option<&'static str>,
        passes_under_follow: bool,
    ) -> Theft {
        Theft {
            name,
            certificate,
            proof,
            refused_by,
            passes_under_follow,
        }
    }
    [
        theft("T1 with the proof", Victims, Stolen, Some("RS-6"), false),
        theft("T1 without it", Victims, Nothing, Some("RS-4"), true),
        theft(
            "T2 with the proof",
            OwnCertificate,
            Stolen,
            Some("RS-3"),
            false,
        ),
        theft(
            "T2 without it",
            OwnCertificate,
            Nothing,
            Some("RS-3"),
            false,
        ),
        theft(
            "T2 with an own proof",
            OwnCertificate,
            Own,
            Some("RS-3"),
            false,
        ),
        theft("T3 without it", NoCertificate, Nothing, None, false),
        theft("T3 with an own proof", NoCertificate, Own, None, false),
        theft(
            "T4 with the proof",
            OwnCertificate,
            Stolen,
            Some("RS-3"),
            false,
        ),
        theft(
            "T4 with an own proof",
            OwnCertificate,
            Own,
            Some("RS-3"),
            false,
        ),
        theft("T7 with the proof", Ticket, Stolen, Some("RS-6"), false),
        theft("T7 without it", Ticket, Nothing, Some("RS-4"), true),
        theft("T7 with an own proof", Ticket, Own, Some("RS-5"), false),
    ]
};

/// A victim's client, whose tickets the thief has.
struct Victim {
    config: Arc<ClientConfig>,
}

impl Victim {
    async fn connect(&self, ingress: &Ingress) -> (Http, bool) {
        let tcp = TcpStream::connect(ingress.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(self.config.clone());
        let stream = within(connector.connect(name, tcp)).await.unwrap();
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        (Http::over(stream).await, resumed)
    }
}

fn request(token: &AccessToken, proof: Option<&Proof>) -> http::request::Builder {
    match proof {
        Some(proof) => with_token(token).header(PROOF_HEADER, proof.header_value()),
        None => with_token(token),
    }
}

/// Acts out each theft of `token`, and returns what became of it: the id of the check, `handshake`,
/// or the class.
pub(crate) async fn act_out(
    scene: &Scene,
    ingress: &Ingress,
    token: &AccessToken,
) -> Vec<(&'static str, String)> {
    let victim = Victim {
        config: TlsOptions::alpn(Alpn::Http2).client(&scene.pki, Some(&scene.agent)),
    };
    let (mut honest, _) = victim.connect(ingress).await;
    let stolen = proof(&scene.agent, token, &honest.exporter);
    let answer = honest.get(request(token, Some(&stolen))).await;
    let verified = answer.arrived();
    let verified = verified.one("session-binding-verified");
    assert!(verified.starts_with("class=session, "), "{verified}");

    let mut outcomes = Vec::new();
    for theft in &THEFTS {
        let http = match theft.certificate {
            Certificate::Victims => Some(connect(scene, ingress, Some(&scene.agent)).await),
            Certificate::Own => Some(connect(scene, ingress, Some(&scene.thief)).await),
            Certificate::None => connect_without(scene, ingress).await,
            Certificate::Ticket => {
                let (http, resumed) = victim.connect(ingress).await;
                assert!(resumed, "the ticket is used");
                Some(http)
            }
        };
        let Some(mut http) = http else {
            outcomes.push((theft.name, "handshake".to_owned()));
            continue;
        };
        let own = |exporter: &ExporterValue| proof(&scene.thief, token, exporter);
        let sent = match theft.proof {
            Sent::Nothing => None,
            Sent::Stolen => Some(stolen.clone()),
            Sent::Own => Some(own(&http.exporter)),
        };
        let answer = http.get(request(token, sent.as_ref())).await;
        outcomes.push((theft.name, outcome(&answer)));
    }
    outcomes
}

async fn connect(scene: &Scene, ingress: &Ingress, identity: Option<&Leaf>) -> Http {
    scene.connect_as(ingress, identity, Alpn::Http2).await
}

/// `None`: the server demands a certificate.
async fn connect_without(scene: &Scene, ingress: &Ingress) -> Option<Http> {
    let mut http = connect(scene, ingress, None).await;
    // In TLS 1.3 the client learns of it with what it reads first.
    let probe = Request::builder().uri("/").body(whole("")).unwrap();
    http.send(probe).await.ok().map(|_| http)
}

fn outcome(answer: &Answer) -> String {
    if answer.status == 200 {
        let arrived = answer.arrived();
        let observed = arrived.all("session-binding-observed");
        let said = match observed.first() {
            Some(observed) => (*observed).to_owned(),
            None => arrived.one("session-binding-verified").to_owned(),
        };
        return said.split(", thumbprint").next().unwrap().to_owned();
    }
    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
    let description = challenge.split("error_description=\"").nth(1).unwrap();
    description.split(':').next().unwrap().to_owned()
}

/// All three modes, for a token that names the agent's certificate and has no `tls_exp`.
pub(crate) async fn assert_thefts_fail(scene: &Scene, options: &[String], token: &AccessToken) {
    let upstream = Upstream::echo();
    let start = async |more: &[&str]| {
        let options = options
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied());
        let options: Vec<_> = options.collect();
        scene.start_with(&upstream.url(), &options).await
    };
    let refused = act_out(scene, &start(&[]).await, token).await;
    let observed = act_out(scene, &start(&["--observe"]).await, token).await;
    let followed = act_out(scene, &start(&["--policy", "follow"]).await, token).await;
    for (at, theft) in THEFTS.iter().enumerate() {
        let name = theft.name;
        let expected = theft.refused_by.unwrap_or("handshake");
        assert_eq!(refused[at], (name, expected.to_owned()));
        // Without a certificate RS-3 is what would refuse.
        let check = theft.refused_by.unwrap_or("RS-3");
        let expected = format!("class=none, check=\"{check}\"");
        assert_eq!(observed[at], (name, expected), "observed");
        if theft.passes_under_follow {
            assert_eq!(
                followed[at],
                (name, "class=certificate".to_owned()),
                "follow"
            );
        } else {
            assert!(
                followed[at].1.starts_with("RS-"),
                "follow: {:?}",
                followed[at]
            );
        }
    }
}

#[tokio::test]
async fn a_stolen_certificate_bound_token_is_of_no_use() {
    let scene = Scene::new();
    let token = scene.certificate_bound();
    assert_thefts_fail(&scene, &scene.jwt_options(), &token).await;
}

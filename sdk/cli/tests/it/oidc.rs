//! npm's `oidc-provider` as the authorization server: its certificate-bound tokens, as it issues
//! them (no `tls_exp` anywhere), and the thefts of `ingress::threats` against them.
//!
//! Needs Node and npm, so it belongs to the named set (`just parts`) and not to `cargo test`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bowline::token::{
    AuthorizationServer, ClientAuthentication, OAuth, RequiredBinding, TokenSource,
};
use bowline::{Client, Identity, Trust};
use bowline_proof::AccessToken;

use crate::ingress::fixture::Scene;
use crate::ingress::threats::assert_thefts_fail;

/// A resource in `conformance/oidc-provider/server.js`.
const RESOURCE: &str = "https://jwt.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm: run `just parts`"]
async fn a_stolen_token_of_oidc_provider_as_it_is_is_of_no_use() {
    let scene = Scene::new();
    let provider = OidcProvider::start(&scene);
    let token = token(&scene, &provider).await;
    let confirmation = token.confirmation().unwrap();
    assert_eq!(confirmation.x5t_s256, Some(scene.agent.thumbprint()));
    assert_eq!(confirmation.tls_exp, None);
    let jwks = format!("{}/jwks", provider.issuer);
    let ca = scene.path("ca.pem").display().to_string();
    let options = [
        ["--jwks", &jwks],
        ["--issuer", &provider.issuer],
        ["--audience", RESOURCE],
        ["--authority-ca", &ca],
    ];
    let options: Vec<_> = options.concat().into_iter().map(str::to_owned).collect();
    assert_thefts_fail(&scene, &options, &token).await;
}

/// By `client_credentials` (RFC 6749 section 4.4) with `tls_client_auth` (RFC 8705).
async fn token(scene: &Scene, provider: &OidcProvider) -> AccessToken {
    let (chain, key) = (scene.agent.chain_pem(), scene.agent.key_pem());
    let client = Client::builder()
        .identity(Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
        .trust(Trust::from_der([scene.pki.ca_der().clone()]).unwrap())
        .build()
        .unwrap();
    let server = AuthorizationServer::issuer(&provider.issuer);
    let authentication = ClientAuthentication::tls("agent-certificate");
    let source = OAuth::builder(client, server, authentication)
        .resource(RESOURCE)
        .scope("read")
        .bound(RequiredBinding::Certificate)
        .build()
        .unwrap();
    source.token().await.unwrap().access_token().clone()
}

/// `conformance/oidc-provider/server.js`, with certificates of the scene.
struct OidcProvider {
    child: Child,
    issuer: String,
}

impl OidcProvider {
    fn start(scene: &Scene) -> Self {
        let dir = scene.path("");
        scene.pki.localhost().write_to(&dir).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/oidc-provider");
        let mut child = Command::new(node(&program))
            .arg(program.join("server.js"))
            .arg(&dir)
            // Its end of file makes the program end if this process is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: run `just parts`, which installs it");
        let mut issuer = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("piped"));
        lines.read_line(&mut issuer).expect("text");
        assert!(
            issuer.starts_with("https://"),
            "the program ended early: are its packages installed? see `just parts`"
        );
        Self {
            child,
            issuer: issuer.trim_end().to_owned(),
        }
    }
}

/// The Node that the lock file names, where npm has one for this machine; or else that of the
/// `PATH`.
pub(crate) fn node(program: &Path) -> PathBuf {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let locked = program.join(format!("node_modules/node-linux-{arch}/bin/node"));
    match locked.exists() {
        true => locked,
        false => PathBuf::from("node"),
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

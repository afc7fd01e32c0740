//! A calls B, and B calls C on A's behalf.
//!
//! A's token is addressed to B and bound to A's certificate, so it is of no use to B at C. B exchanges it at the
//! authorization server (RFC 8693) for one that is addressed to C and bound to B's own certificate (TK-4), and that says
//! for whom B acts. Afterwards A's token is stolen, by B and by somebody else, and refused everywhere.
//!
//!     cargo run -p token_exchange
//!
//! Everything is real and on loopback: TLS, a development authorization server, bowline's client and verifier.

use std::error::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use bowline_client::{AccessToken, Client, Identity, Trust};
use bowline_server::{
    Acceptor, Binding, BindingLayer, ClientAuth, JwksUrl, JwtValidator, Listener, Policy, ServeOptions, ServerIdentity,
    ServerTls,
};
use bowline_testkit::authority::{self, Authority, AuthorityOptions};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What B and C are called in tokens (`aud`), wherever they listen.
const B: &str = "https://b.example";
const C: &str = "https://c.example";

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<()> {
    let world = World::start();
    let c = world.serve(C, Router::new().route("/", get(whoami))).await?;
    let hop = NextHop {
        client: world.client(&world.b)?,
        token_endpoint: world.authority.mtls_token_url(),
        url: c.clone(),
    };
    let router = Router::new().route("/", get(pass_on)).with_state(Arc::new(hop));
    let b = world.serve(B, router).await?;

    let a = world.client(&world.a)?;
    let token = client_credentials(&a, &world.authority.mtls_token_url(), "a", B).await?;
    let (status, answer) = call(&a, &b, &token).await?;
    expect(status, StatusCode::OK)?;
    println!("A calls B, B exchanges A's token and calls C. C says: {answer}");

    println!("\nB uses A's token at C:");
    let refusal = world.steal(&world.b, &c, &token).await?;
    println!("  {refusal}");
    println!("Somebody else uses it at B:");
    let refusal = world.steal(&world.thief, &b, &token).await?;
    println!("  {refusal}");
    println!("Somebody else exchanges it at the authorization server:");
    let thief = world.client(&world.thief)?;
    let refusal = exchange(&thief, &world.authority.mtls_token_url(), "thief", &token, C).await;
    println!("  {}", refusal.err().ok_or("the stolen token was exchanged")?);
    println!("B's own client does not even try:");
    let refusal = call(&world.client(&world.b)?, &c, &token).await;
    println!("  {}", refusal.err().ok_or("the token was sent")?);
    Ok(())
}

/// C: for whom is this, and who acts (RFC 8693 §4.1)?
async fn whoami(Extension(binding): Extension<Binding>) -> String {
    let claims = binding.claims();
    let name = |claim: &Value| claim.as_str().unwrap_or("nobody").to_owned();
    format!(
        "for {}, by {}, {}-bound",
        name(&claims["sub"]),
        name(&claims["act"]["sub"]),
        binding.class().name()
    )
}

/// What B needs to go on to C.
struct NextHop {
    client: Client,
    token_endpoint: String,
    url: String,
}

/// B. The verifier in front of it has seen to it that A's token came over A's connection: the authorization server cannot
/// (AS-3).
async fn pass_on(State(next): State<Arc<NextHop>>, headers: HeaderMap) -> std::result::Result<String, StatusCode> {
    let answer = async {
        let subject = AccessToken::from_authorization(&headers[AUTHORIZATION])?;
        let own = exchange(&next.client, &next.token_endpoint, "b", &subject, C).await?;
        let (status, answer) = call(&next.client, &next.url, &own).await?;
        expect(status, StatusCode::OK)?;
        Ok::<_, Box<dyn Error + Send + Sync>>(answer)
    };
    answer.await.map_err(|_| StatusCode::BAD_GATEWAY)
}

/// RFC 6749 §4.4, with the certificate as credentials (RFC 8705).
async fn client_credentials(client: &Client, endpoint: &str, client_id: &str, resource: &str) -> Result<AccessToken> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("resource", resource),
    ];
    token(client, endpoint, &form).await
}

/// RFC 8693 §2.1.
async fn exchange(
    client: &Client,
    endpoint: &str,
    client_id: &str,
    subject: &AccessToken,
    resource: &str,
) -> Result<AccessToken> {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("client_id", client_id),
        ("subject_token", subject.secret()),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("resource", resource),
    ];
    token(client, endpoint, &form).await
}

async fn token(client: &Client, endpoint: &str, form: &[(&str, &str)]) -> Result<AccessToken> {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = Request::post(endpoint)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))?;
    let response = client.send(request).await?;
    let status = response.status();
    let answer: Value = serde_json::from_str(&text(response.into_body()).await?)?;
    match answer["access_token"].as_str() {
        Some(token) => Ok(AccessToken::new(token)?),
        None => Err(format!("{status} {}: {}", answer["error"], answer["error_description"]).into()),
    }
}

/// One request with a token; the client chooses a connection and sends the proof that fits it.
async fn call(client: &Client, url: &str, token: &AccessToken) -> Result<(StatusCode, String)> {
    let request = Request::get(url)
        .extension(token.clone())
        .body(Full::<Bytes>::default())?;
    let response = client.send(request).await?;
    Ok((response.status(), text(response.into_body()).await?))
}

async fn text(body: bowline_client::Body) -> Result<String> {
    let octets = Limited::new(body, 64 * 1024).collect().await?.to_bytes();
    Ok(String::from_utf8(octets.to_vec())?)
}

fn expect(status: StatusCode, expected: StatusCode) -> Result<()> {
    match status == expected {
        true => Ok(()),
        false => Err(format!("expected {expected}, and got {status}").into()),
    }
}

/// Who takes part, and their authorization server.
struct World {
    pki: Pki,
    authority: Authority,
    a: Leaf,
    b: Leaf,
    thief: Leaf,
}

impl World {
    fn start() -> Self {
        let pki = Pki::new();
        let [a, b, thief] = ["a", "b", "thief"].map(|name| pki.client(name, KeyKind::P256));
        // A token with `aud` B is addressed to the client `b`, which may exchange it (AS-2).
        let client_b = authority::Client {
            resources: vec![B.to_owned()],
            ..authority::Client::new("b")
        };
        let options = AuthorityOptions {
            clients: vec![client_b],
            ..AuthorityOptions::default()
        };
        Self {
            authority: Authority::start(&pki, options),
            pki,
            a,
            b,
            thief,
        }
    }

    fn client(&self, leaf: &Leaf) -> Result<Client> {
        let identity = Identity::from_pem(leaf.chain_pem().as_bytes(), leaf.key_pem().as_bytes())?;
        let trust = Trust::authorities([self.pki.ca_der().clone()])?;
        Ok(Client::builder().identity(identity).trust(trust).build()?)
    }

    /// Serves `router` to clients with session-bound tokens for `audience`, and gives its URL.
    async fn serve(&self, audience: &str, router: Router) -> Result<String> {
        let leaf = self.pki.localhost();
        let identity = ServerIdentity::new(leaf.chain(), leaf.signing_key())?;
        let tls = ServerTls::builder(identity, ClientAuth::Required(self.pki.roots())).build()?;
        let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
        let url = format!("https://localhost:{}", listener.local_addr().port());

        let keys = JwksUrl::new(&self.authority.jwks_url())?.trust_only_pem(self.authority.ca_pem().as_bytes())?;
        let tokens = JwtValidator::builder(self.authority.issuer(), audience, keys).build();
        let binding = BindingLayer::new(tokens)
            .origins([url.parse()?])
            .policy(Policy::Require);
        let service = router.layer(binding);
        tokio::spawn(bowline_server::serve(
            listener,
            service,
            ServeOptions::default(),
            std::future::pending(),
        ));
        Ok(url)
    }

    /// Presents a token with another HTTP client and this certificate, and gives the refusal.
    async fn steal(&self, certificate: &Leaf, url: &str, token: &AccessToken) -> Result<String> {
        let identity = [certificate.chain_pem(), certificate.key_pem()].concat();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_der(self.pki.ca_der())?])
            .identity(reqwest::Identity::from_pem(identity.as_bytes())?)
            .build()?;
        let response = client.get(url).bearer_auth(token.secret()).send().await?;
        expect(response.status(), StatusCode::UNAUTHORIZED)?;
        let challenge = response.headers()[WWW_AUTHENTICATE].to_str()?;
        Ok(format!("{} {challenge}", response.status()))
    }
}

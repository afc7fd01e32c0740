//! A calls B, and B calls C on A's behalf.
//!
//!     cargo run -p bowline-examples --bin token_exchange
//!
//! A's token is addressed to B and bound to A's certificate, so B cannot use it at C. B exchanges
//! it at the authorization server (RFC 8693) for one that is addressed to C and bound to B's own
//! certificate (TK-4), and that names B as the actor for A. Afterwards A's token is stolen, by B
//! and by another attacker, and refused everywhere.
//!
//! It needs nothing else: it makes the certificates and the authorization server itself
//! (`bowline-testkit`), all on loopback. What a real service keeps of it is [`call_c`]
//! and [`NextHop`].

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use bowline_http_client::{AccessToken, Body, Client, Identity, Trust};
use bowline_server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, JwksUrl, JwtValidator,
    Listener, ServeOptions, ServerTls, VerifiedBinding, serve,
};
use bowline_testkit::authority::{self, Authority, AuthorityOptions};
use bowline_testkit::pki::{KeyKind, Leaf, Pki};
use bowline_token::{
    AuthorizationServer, Authorized, Builder, ClientAuthentication, Exchanges, Fixed, OAuth,
    RequiredBinding, TokenSource,
};
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The names of B and C in tokens (`aud`), whatever their addresses.
const B: &str = "https://b.example";
const C: &str = "https://c.example";

#[tokio::main]
async fn main() -> Result<(), Error> {
    run().await
}

async fn run() -> Result<(), Error> {
    let fixture = Fixture::start();
    let c = fixture
        .serve(C, Router::new().route("/", get(whoami)))
        .await?;
    let next = NextHop::new(&fixture, &c)?;
    let b = fixture
        .serve(B, Router::new().route("/", get(call_c)).with_state(next))
        .await?;

    let source = fixture.tokens("a", &fixture.a)?.resource(B).build()?;
    let a = Authorized::new(fixture.client(&fixture.a)?, source.clone(), &b)?;
    let said = text(a.send(request(&b)?).await?).await?;
    println!("A calls B, B exchanges A's token and calls C. C says: {said}");

    let stolen = source.token().await?.access_token().clone();
    println!("\nA's token is stolen.");
    let refusal = fixture.present(&fixture.b, &c, &stolen).await;
    println!("  B uses it at C: {}", by("RS-2", refusal)?);
    let refusal = fixture.present(&fixture.attacker, &b, &stolen).await;
    println!("  Another attacker uses it at B: {}", by("RS-3", refusal)?);
    let attacker = fixture.tokens("attacker", &fixture.attacker)?.resource(C);
    let refusal = exchanged(attacker, &stolen).await;
    println!("  Another attacker exchanges it: {}", by("AS-2", refusal)?);
    let without = fixture.tokens("b", &fixture.attacker)?.resource(C);
    let refusal = exchanged(without, &stolen).await;
    println!("  The same, as B: {}", by("common name", refusal)?);
    Ok(())
}

/// C answers with the subject of the token and the actor (RFC 8693 §4.1).
async fn whoami(Extension(binding): Extension<VerifiedBinding>) -> String {
    let claims = binding.claims();
    let (subject, actor) = (claims["sub"].as_str(), claims["act"]["sub"].as_str());
    let class = binding.class().name();
    format!(
        "for {}, by {}, {class}-bound",
        subject.unwrap_or("nobody"),
        actor.unwrap_or("nobody")
    )
}

/// What B needs to call C.
struct NextHop {
    client: Client,
    exchanges: Exchanges,
    url: String,
}

impl NextHop {
    fn new(fixture: &Fixture, url: &str) -> Result<Arc<Self>, Error> {
        let settings = fixture
            .tokens("b", &fixture.b)?
            .resource(C)
            .bound(RequiredBinding::Session);
        Ok(Arc::new(Self {
            client: fixture.client(&fixture.b)?,
            exchanges: Exchanges::new(settings)?,
            url: url.to_owned(),
        }))
    }
}

/// B. The verifier in front of it has checked that A's token came over A's connection, which the
/// authorization server cannot check (AS-3).
async fn call_c(
    State(next): State<Arc<NextHop>>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let answer = async {
        let subject = AccessToken::from_authorization(&headers[AUTHORIZATION])?;
        let source = next.exchanges.for_token(&subject)?;
        let authorized = Authorized::new(next.client.clone(), source, &next.url)?;
        text(authorized.send(request(&next.url)?).await?).await
    };
    answer.await.map_err(|_: Error| StatusCode::BAD_GATEWAY)
}

/// Tries to exchange a token with these settings, and returns the refusal.
async fn exchanged(settings: Builder, subject: &AccessToken) -> Result<String, Error> {
    let source: OAuth = settings.exchange(Fixed::new(subject.clone())).build()?;
    match source.token().await {
        Ok(_) => Err("it was exchanged".into()),
        Err(error) => Ok(error.to_string()),
    }
}

/// A refusal, if it is by this check.
fn by(check: &str, refusal: Result<String, Error>) -> Result<String, Error> {
    let refusal = refusal?;
    if !refusal.contains(check) {
        return Err(format!("expected a refusal by {check}: {refusal}").into());
    }
    Ok(refusal)
}

fn request(url: &str) -> Result<Request<Full<Bytes>>, Error> {
    Ok(Request::get(url).body(Full::default())?)
}

async fn text(response: Response<Body>) -> Result<String, Error> {
    let status = response.status();
    let bytes = Limited::new(response.into_body(), 64 * 1024)
        .collect()
        .await?
        .to_bytes();
    let text = String::from_utf8(bytes.to_vec())?;
    if !status.is_success() {
        return Err(format!("{status}: {text}").into());
    }
    Ok(text)
}

/// The certificates of A, B and the attacker, and their authorization server.
struct Fixture {
    pki: Pki,
    authority: Authority,
    a: Leaf,
    b: Leaf,
    attacker: Leaf,
}

impl Fixture {
    fn start() -> Self {
        let pki = Pki::new();
        let [a, b, attacker] = ["a", "b", "attacker"].map(|name| pki.client(name, KeyKind::P256));
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
            attacker,
        }
    }

    fn client(&self, leaf: &Leaf) -> Result<Client, Error> {
        let identity = Identity::new(leaf.chain(), leaf.signing_key())?;
        let trust = Trust::from_der([self.pki.ca_der().clone()])?;
        Ok(Client::builder().identity(identity).trust(trust).build()?)
    }

    /// Token requests with this certificate.
    fn tokens(&self, client_id: &str, leaf: &Leaf) -> Result<Builder, Error> {
        let server = AuthorizationServer::issuer(self.authority.issuer());
        Ok(OAuth::builder(
            self.client(leaf)?,
            server,
            ClientAuthentication::tls(client_id),
        ))
    }

    /// Serves `router` to clients with session-bound tokens for `audience`, and gives its URL.
    async fn serve(&self, audience: &str, router: Router) -> Result<String, Error> {
        let leaf = self.pki.localhost();
        let identity = bowline_server::Identity::new(leaf.chain(), leaf.signing_key())?;
        let tls =
            ServerTls::builder(identity, ClientAuth::Required(self.pki.roots().into())).build()?;
        let listener = Listener::bind("127.0.0.1:0", Acceptor::new(tls)).await?;
        let url = format!("https://localhost:{}", listener.local_addr().port());

        let keys = JwksUrl::new(&self.authority.jwks_url())?
            .trust_only_pem(self.authority.ca_pem().as_bytes())?;
        let tokens = JwtValidator::builder(
            ExpectedClaims::new(audience).issuer(self.authority.issuer()),
            keys,
        )
        .build();
        let binding = BindingLayer::new(tokens)
            .origins([url.parse()?])
            .policy(AcceptPolicy::RequireSession);
        let service = router.layer(binding);
        tokio::spawn(serve(
            listener,
            service,
            ServeOptions::default(),
            std::future::pending(),
        ));
        Ok(url)
    }

    /// Presents a token with an ordinary HTTP client and this certificate. B's own bowline client
    /// would not: the token is bound to another (CL-8).
    async fn present(
        &self,
        certificate: &Leaf,
        url: &str,
        token: &AccessToken,
    ) -> Result<String, Error> {
        let identity = [certificate.chain_pem(), certificate.key_pem()].concat();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(
                self.pki.ca_pem().as_bytes(),
            )?])
            .identity(reqwest::Identity::from_pem(identity.as_bytes())?)
            .build()?;
        let response = client.get(url).bearer_auth(token.secret()).send().await?;
        let status = response.status();
        match response.headers().get(WWW_AUTHENTICATE) {
            Some(challenge) => Ok(format!("{status} {}", challenge.to_str()?)),
            None => Err(format!("the attacker was not refused: {status}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_chain_passes_and_each_attack_is_refused_by_its_check() {
        super::run().await.unwrap();
    }
}

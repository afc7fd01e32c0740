use axum::{Extension, Router, routing::get};
use bowline::server::{
    AcceptPolicy, Acceptor, BindingLayer, ClientAuth, ExpectedClaims, Identity, JwksUrl,
    JwtValidator, Listener, ServeOptions, ServerTls, Trust, VerifiedBinding, serve,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::from_pem_files("server.pem", "server-key.pem")?;
    let clients = ClientAuth::Required(Trust::from_pem_file("agents-ca.pem")?);
    let tls = ServerTls::builder(identity, clients).build()?;
    let listener = Listener::bind("0.0.0.0:8443", Acceptor::new(tls)).await?;

    let keys = JwksUrl::new("https://as.example.com/jwks")?;
    let claims = ExpectedClaims::new("https://api.example.com").issuer("https://as.example.com");
    let binding = BindingLayer::new(JwtValidator::builder(claims, keys).build())
        .origins(["https://api.example.com".parse()?])
        .policy(AcceptPolicy::RequireProof);
    let app = Router::new().route("/", get(hello)).layer(binding);
    let options = ServeOptions::default();
    serve(listener, app, options, std::future::pending()).await;
    Ok(())
}

async fn hello(Extension(binding): Extension<VerifiedBinding>) -> String {
    format!("hello, {}", binding.claims()["client_id"])
}

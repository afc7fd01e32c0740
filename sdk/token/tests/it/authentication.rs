//! Each method of client authentication, and what the tokens are bound to.

use bowline_http_client::{DpopKey, Scheme};
use bowline_proof::{Demand, Thumbprint};
use bowline_testkit::authority::{
    AuthorityOptions, Client as Registration, ClientAuthentication as Registered, TokenBinding,
    TokenFormat,
};
use bowline_testkit::pki::{KeyKind, Pki};
use bowline_token::{
    AssertionKey, AuthorizationServer, ClientAuthentication, ErrorKind, Fault, OAuth,
    OAuthErrorCode, RequiredBinding, TokenSource,
};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey};

use crate::fixture::{Fixture, bound_to, identity};

/// The public half of a key, as a client registers it.
fn key_set(leaf: &bowline_testkit::pki::Leaf, kid: Option<&str>) -> Registered {
    let private = EncodingKey::from_ec_der(leaf.key().secret_der());
    let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
    public.common.key_id = kid.map(str::to_owned);
    Registered::PrivateKeyJwt {
        keys: JwkSet { keys: vec![public] },
    }
}

#[tokio::test]
async fn a_ca_issued_certificate_authenticates_the_client_at_the_mtls_alias() {
    let fixture = Fixture::new();
    let source = fixture
        .source(&fixture.client())
        .scope("read")
        .resource("https://rs.example")
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.access_token().demand(), Ok(Demand::Session));
    assert_eq!(bound_to(&token), fixture.agent.thumbprint());
    assert_eq!(
        (token.certificate(), token.scope()),
        (Some(fixture.agent.thumbprint()), Some("read"))
    );
    assert_eq!(token.source(), source.id());
    assert_eq!(fixture.authority.token_requests(), 1);
}

#[tokio::test]
async fn a_registered_certificate_authenticates_the_client_without_a_trusted_issuer() {
    let fixture = Fixture::new();
    let own = Pki::foreign().client("agent", KeyKind::P384);
    fixture.authority.register(Registration {
        authentication: Registered::SelfSignedTls {
            certificates: vec![own.certificate().clone()],
        },
        ..Registration::new("agent")
    });
    let client = fixture.client_of(&own);
    let source = fixture
        .source_by(&client, ClientAuthentication::self_signed_tls("agent"))
        .build()
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), own.thumbprint());
}

#[tokio::test]
async fn an_assertion_authenticates_the_client_with_a_given_key() {
    let fixture = Fixture::new();
    let signer = fixture.pki.client("signer", KeyKind::P256);
    let key = AssertionKey::from_der(&signer.key())
        .unwrap()
        .with_kid("k1");
    fixture.authority.register(Registration {
        authentication: key_set(&signer, Some("k1")),
        ..Registration::new("agent")
    });
    // The certificate has another key. Tokens are bound to it all the same (AS-1).
    let by_key = ClientAuthentication::private_key_jwt("agent", key.clone());
    let source = fixture
        .source_by(&fixture.client(), by_key.clone())
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    assert_eq!(
        bound_to(&source.token().await.unwrap()),
        fixture.agent.thumbprint()
    );

    // A client without a certificate gets an unbound token.
    let without = fixture.client_builder().build().unwrap();
    let source = fixture.source_by(&without, by_key.clone()).build().unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(
        (token.access_token().demand(), token.certificate()),
        (Ok(Demand::None), None)
    );
    // If it requires a binding, the error says why there is none.
    let source = fixture
        .source_by(&without, by_key)
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Binding, "{error}");
    assert!(error.to_string().contains("TK-3"), "{error}");

    // Another kid is another key.
    let other = ClientAuthentication::private_key_jwt("agent", key.with_kid("k2"));
    let error = fixture
        .source_by(&without, other)
        .build()
        .unwrap()
        .token()
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidClient),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_known_issuer_the_audience_of_an_assertion_is_the_token_endpoint() {
    let fixture = Fixture::new();
    fixture.authority.register(Registration {
        authentication: key_set(&fixture.agent, None),
        ..Registration::new("agent")
    });
    let client = fixture.client();
    let source = |server: &str, authentication| {
        let server = AuthorizationServer::token_endpoint(server);
        OAuth::builder(client.clone(), server, authentication)
            .build()
            .unwrap()
    };
    let by_certificate = ClientAuthentication::certificate_key_jwt("agent");
    let token = source(&fixture.authority.mtls_token_url(), by_certificate.clone())
        .token()
        .await
        .unwrap();
    assert_eq!(bound_to(&token), fixture.agent.thumbprint());
    let token = source(&fixture.authority.token_url(), by_certificate.clone())
        .token()
        .await
        .unwrap();
    assert_eq!(
        token.access_token().demand(),
        Ok(Demand::None),
        "no certificate was asked for there"
    );

    let elsewhere = by_certificate.audience("https://elsewhere.example");
    let error = source(&fixture.authority.token_url(), elsewhere)
        .token()
        .await
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidClient)
    );
    assert!(error.to_string().contains("aud"), "{error}");
}

#[tokio::test]
async fn a_token_is_bound_to_the_proved_dpop_key_with_and_without_a_nonce() {
    for dpop_nonces in [false, true] {
        let fixture = Fixture::with(AuthorityOptions {
            dpop_nonces,
            ..AuthorityOptions::default()
        });
        let key = DpopKey::generate().unwrap();
        let client = fixture
            .client_builder()
            .identity(identity(&fixture.agent))
            .dpop_key(key.clone())
            .build()
            .unwrap();
        let source = fixture
            .source(&client)
            .bound(RequiredBinding::Dpop)
            .build()
            .unwrap();
        let token = source.token().await.unwrap();
        let access = token.access_token();
        assert_eq!(access.confirmation().unwrap().jkt, Some(key.thumbprint()));
        assert_eq!(
            (access.scheme(), access.demand()),
            (Scheme::Dpop, Ok(Demand::Dpop))
        );
        let rows = client.stats().totals;
        assert_eq!(rows.signatures(), 1 + u64::from(dpop_nonces));
    }
}

#[tokio::test]
async fn a_client_without_a_dpop_key_gets_a_configuration_error_and_sends_nothing() {
    let fixture = Fixture::new();
    let source = fixture
        .source(&fixture.client())
        .bound(RequiredBinding::Dpop)
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fault()),
        (ErrorKind::Configuration, Fault::Configuration)
    );
    assert!(error.to_string().contains("dpop_key"), "{error}");
    assert_eq!(fixture.authority.token_requests(), 0);
}

#[tokio::test]
async fn a_token_without_the_required_binding_is_an_error_that_says_so() {
    let fixture = Fixture::new();
    let requiring = async |bound, binding| {
        fixture.authority.register(Registration {
            binding,
            ..Registration::new("agent")
        });
        let source = fixture
            .source(&fixture.client())
            .bound(bound)
            .build()
            .unwrap();
        source.token().await
    };
    for (bound, binding) in [
        (RequiredBinding::AsIssued, TokenBinding::Bearer),
        (RequiredBinding::Certificate, TokenBinding::Certificate),
        (RequiredBinding::Certificate, TokenBinding::Session),
        (RequiredBinding::Session, TokenBinding::Session),
    ] {
        requiring(bound, binding).await.unwrap();
    }
    for (bound, binding, advice) in [
        (
            RequiredBinding::Certificate,
            TokenBinding::Bearer,
            "RFC 8705",
        ),
        (RequiredBinding::Session, TokenBinding::Certificate, "TK-3"),
        (RequiredBinding::Session, TokenBinding::Bearer, "TK-3"),
    ] {
        let error = requiring(bound, binding).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.fault()),
            (ErrorKind::Binding, Fault::Peer)
        );
        assert!(
            error.to_string().contains(advice) && !error.is_worth_another_try(),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_opaque_token_belongs_to_the_certificate_that_requested_it() {
    let fixture = Fixture::with(AuthorityOptions {
        format: TokenFormat::Opaque,
        ..AuthorityOptions::default()
    });
    let source = fixture
        .source(&fixture.client())
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.certificate(), Some(fixture.agent.thumbprint()));
    assert_eq!(
        token.access_token().confirmation().unwrap().x5t_s256,
        None::<Thumbprint>
    );
}

#[tokio::test]
async fn each_refusal_has_its_code_and_fault() {
    let fixture = Fixture::new();
    let client = fixture.client();
    let stranger = fixture
        .source_by(&client, ClientAuthentication::tls("somebody-else"))
        .build()
        .unwrap();
    let error = stranger.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fault()),
        (
            ErrorKind::Refused(OAuthErrorCode::InvalidClient),
            Fault::Configuration
        )
    );
    assert!(
        error.to_string().contains("invalid_client")
            && error
                .to_string()
                .contains(&fixture.authority.mtls_token_url())
    );

    let greedy = fixture.source(&client).scope("a  b").build().unwrap();
    assert_eq!(
        greedy.token().await.unwrap_err().kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidScope)
    );
    let lost = fixture.source_for(&client, "urn:x");
    assert_eq!(
        lost.token().await.unwrap_err().kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidTarget)
    );
    assert_eq!(fixture.authority.token_requests(), 3);
    for source in [stranger, greedy, lost] {
        source.token().await.unwrap_err();
    }
    assert_eq!(
        fixture.authority.token_requests(),
        3,
        "no request is repeated soon"
    );
}

#[tokio::test]
async fn a_missing_certificate_is_a_configuration_error() {
    let fixture = Fixture::new();
    let client = fixture.client_builder().build().unwrap();
    for authentication in [
        ClientAuthentication::tls("agent"),
        ClientAuthentication::self_signed_tls("agent"),
        ClientAuthentication::certificate_key_jwt("agent"),
    ] {
        let error = fixture
            .source_by(&client, authentication)
            .build()
            .unwrap()
            .token()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("identity"), "{error}");
    }
    assert_eq!(fixture.authority.token_requests(), 0);
}

#[test]
fn invalid_settings_are_refused_before_any_request() {
    let client = || bowline_http_client::Client::builder().build().unwrap();
    let builder = |id: &str| {
        let server = AuthorizationServer::issuer("https://as.example");
        OAuth::builder(client(), server, ClientAuthentication::tls(id))
    };
    for builder in [
        builder(""),
        builder("agent").resource("/relative"),
        builder("agent").resource("https://rs.example/#fragment"),
        builder("agent").resource("no scheme: at all"),
    ] {
        assert_eq!(
            builder.build().unwrap_err().kind(),
            ErrorKind::Configuration
        );
    }
    assert!(
        builder("agent")
            .resource("urn:example:things")
            .build()
            .is_ok()
    );
}

//! Each way in which a client proves who it is, and what its tokens are bound to.

use bowline_client::{DpopKey, Scheme};
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

use crate::lab::{Lab, bound_to, identity};

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
async fn a_certificate_of_the_authority_authenticates_the_client_at_the_alias_for_mutual_tls() {
    let lab = Lab::new();
    let source = lab
        .source(&lab.client())
        .scope("read")
        .resource("https://rs.example")
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.access_token().demand(), Ok(Demand::Session));
    assert_eq!(bound_to(&token), lab.agent.thumbprint());
    assert_eq!(
        (token.certificate(), token.scope()),
        (Some(lab.agent.thumbprint()), Some("read"))
    );
    assert_eq!(token.source(), source.id());
    assert_eq!(lab.authority.token_requests(), 1);
}

#[tokio::test]
async fn a_registered_certificate_authenticates_the_client_whoever_signed_it() {
    let lab = Lab::new();
    let own = Pki::foreign().client("agent", KeyKind::P384);
    lab.authority.register(Registration {
        authentication: Registered::SelfSignedTls {
            certificates: vec![own.certificate().clone()],
        },
        ..Registration::new("agent")
    });
    let client = lab.client_of(&own);
    let source = lab
        .source_by(&client, ClientAuthentication::self_signed_tls("agent"))
        .build()
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), own.thumbprint());
}

#[tokio::test]
async fn an_assertion_authenticates_the_client_with_a_given_key() {
    let lab = Lab::new();
    let signer = lab.pki.client("signer", KeyKind::P256);
    let key = AssertionKey::from_der(&signer.key())
        .unwrap()
        .with_kid("k1");
    lab.authority.register(Registration {
        authentication: key_set(&signer, Some("k1")),
        ..Registration::new("agent")
    });
    // The certificate is another key's: tokens are bound to it all the same (AS-1).
    let by_key = ClientAuthentication::private_key_jwt("agent", key.clone());
    let source = lab
        .source_by(&lab.client(), by_key.clone())
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    assert_eq!(
        bound_to(&source.token().await.unwrap()),
        lab.agent.thumbprint()
    );

    // And a client without a certificate gets what can be had without one.
    let without = lab.client_builder().build().unwrap();
    let source = lab.source_by(&without, by_key.clone()).build().unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(
        (token.access_token().demand(), token.certificate()),
        (Ok(Demand::None), None)
    );
    // If it insists on more, it is told why not.
    let source = lab
        .source_by(&without, by_key)
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Binding, "{error}");
    assert!(error.to_string().contains("TK-3"), "{error}");

    // Another kid is another key.
    let other = ClientAuthentication::private_key_jwt("agent", key.with_kid("k2"));
    let error = lab
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
async fn an_assertion_is_addressed_to_the_token_endpoint_where_nobody_knows_the_issuer() {
    let lab = Lab::new();
    lab.authority.register(Registration {
        authentication: key_set(&lab.agent, None),
        ..Registration::new("agent")
    });
    let client = lab.client();
    let source = |server: &str, authentication| {
        let server = AuthorizationServer::token_endpoint(server);
        OAuth::builder(client.clone(), server, authentication)
            .build()
            .unwrap()
    };
    let by_certificate = ClientAuthentication::certificate_key_jwt("agent");
    let token = source(&lab.authority.mtls_token_url(), by_certificate.clone())
        .token()
        .await
        .unwrap();
    assert_eq!(bound_to(&token), lab.agent.thumbprint());
    let token = source(&lab.authority.token_url(), by_certificate.clone())
        .token()
        .await
        .unwrap();
    assert_eq!(
        token.access_token().demand(),
        Ok(Demand::None),
        "no certificate was asked for there"
    );

    let elsewhere = by_certificate.audience("https://elsewhere.example");
    let error = source(&lab.authority.token_url(), elsewhere)
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
async fn a_token_is_bound_to_the_dpop_key_that_was_proved_nonce_or_not() {
    for dpop_nonces in [false, true] {
        let lab = Lab::with(AuthorityOptions {
            dpop_nonces,
            ..AuthorityOptions::default()
        });
        let key = DpopKey::generate().unwrap();
        let client = lab
            .client_builder()
            .identity(identity(&lab.agent))
            .dpop_key(key.clone())
            .build()
            .unwrap();
        let source = lab
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
async fn a_client_that_proves_no_dpop_key_and_one_that_has_none_are_told_apart() {
    let lab = Lab::new();
    let source = lab
        .source(&lab.client())
        .bound(RequiredBinding::Dpop)
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fault()),
        (ErrorKind::Configuration, Fault::Configuration)
    );
    assert!(error.to_string().contains("dpop_key"), "{error}");
    assert_eq!(lab.authority.token_requests(), 0);
}

#[tokio::test]
async fn what_a_client_insists_on_and_does_not_get_is_an_error_that_says_so() {
    let lab = Lab::new();
    let insisting = async |bound, binding| {
        lab.authority.register(Registration {
            binding,
            ..Registration::new("agent")
        });
        let source = lab.source(&lab.client()).bound(bound).build().unwrap();
        source.token().await
    };
    for (bound, binding) in [
        (RequiredBinding::AsIssued, TokenBinding::Bearer),
        (RequiredBinding::Certificate, TokenBinding::Certificate),
        (RequiredBinding::Certificate, TokenBinding::Session),
        (RequiredBinding::Session, TokenBinding::Session),
    ] {
        insisting(bound, binding).await.unwrap();
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
        let error = insisting(bound, binding).await.unwrap_err();
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
async fn an_opaque_token_is_known_by_the_certificate_that_asked_for_it() {
    let lab = Lab::with(AuthorityOptions {
        format: TokenFormat::Opaque,
        ..AuthorityOptions::default()
    });
    let source = lab
        .source(&lab.client())
        .bound(RequiredBinding::Session)
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.certificate(), Some(lab.agent.thumbprint()));
    assert_eq!(
        token.access_token().confirmation().unwrap().x5t_s256,
        None::<Thumbprint>
    );
}

#[tokio::test]
async fn each_refusal_is_told_with_its_code_and_whose_fault_it_is() {
    let lab = Lab::new();
    let client = lab.client();
    let stranger = lab
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
            && error.to_string().contains(&lab.authority.mtls_token_url())
    );

    let greedy = lab.source(&client).scope("a  b").build().unwrap();
    assert_eq!(
        greedy.token().await.unwrap_err().kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidScope)
    );
    let lost = lab.source(&client).resource("urn:x").build().unwrap();
    assert_eq!(
        lost.token().await.unwrap_err().kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidTarget)
    );
    assert_eq!(lab.authority.token_requests(), 3);
    for source in [stranger, greedy, lost] {
        source.token().await.unwrap_err();
    }
    assert_eq!(
        lab.authority.token_requests(),
        3,
        "nobody is asked again soon"
    );
}

#[tokio::test]
async fn a_certificate_that_is_needed_and_not_there_is_the_configurations_fault() {
    let lab = Lab::new();
    let client = lab.client_builder().build().unwrap();
    for authentication in [
        ClientAuthentication::tls("agent"),
        ClientAuthentication::self_signed_tls("agent"),
        ClientAuthentication::certificate_key_jwt("agent"),
    ] {
        let error = lab
            .source_by(&client, authentication)
            .build()
            .unwrap()
            .token()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        assert!(error.to_string().contains("identity"), "{error}");
    }
    assert_eq!(lab.authority.token_requests(), 0);
}

#[test]
fn settings_that_cannot_be_meant_are_refused_before_anybody_is_asked() {
    let client = || bowline_client::Client::builder().build().unwrap();
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

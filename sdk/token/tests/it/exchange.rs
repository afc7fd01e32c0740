//! Token exchange (RFC 8693).

use std::sync::Arc;

use bowline_http_client::AccessToken;
use bowline_proof::Demand;
use bowline_testkit::authority::{Client as Registration, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf};
use bowline_token::{
    AuthorizationServer, Authorized, ClientAuthentication, ErrorKind, Exchanges, Fixed, OAuth,
    OAuthErrorCode, RequiredBinding, TokenSource, replace_identity,
};
use futures_util::future::join_all;

use crate::fixture::{Fixture, bound_to, get_request, identity, ok};

/// A service that is called with the agent's tokens and calls other services.
struct Service {
    leaf: Leaf,
    client: bowline_http_client::Client,
}

const SERVICE: &str = "https://service.example";

impl Service {
    fn new(fixture: &Fixture) -> Self {
        fixture.authority.register(Registration {
            resources: vec![SERVICE.to_owned()],
            ..Registration::new("service")
        });
        let leaf = fixture.pki.client("service", KeyKind::P256);
        let client = fixture.client_of(&leaf);
        Self { leaf, client }
    }

    fn settings(&self, fixture: &Fixture) -> bowline_token::Builder {
        let server = AuthorizationServer::issuer(fixture.authority.issuer());
        OAuth::builder(
            self.client.clone(),
            server,
            ClientAuthentication::tls("service"),
        )
        .clock(fixture.clock.to_clock())
        .bound(RequiredBinding::Session)
    }
}

/// A token of the agent whose audience is the service.
fn incoming(fixture: &Fixture) -> AccessToken {
    let request = TokenRequest::session_bound("agent", fixture.agent.thumbprint())
        .audience(SERVICE)
        .scope("read write");
    AccessToken::new(fixture.authority.issue(&request)).unwrap()
}

#[tokio::test]
async fn a_service_exchanges_the_token_of_its_caller_and_calls_the_next_service() {
    let fixture = Fixture::new();
    let (service, resource) = (Service::new(&fixture), fixture.resource());
    let source = service
        .settings(&fixture)
        .resource(resource.origin())
        .scope("read")
        .exchange(Fixed::new(incoming(&fixture)))
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.access_token().demand(), Ok(Demand::Session), "TK-4");
    assert_eq!(bound_to(&token), service.leaf.thumbprint());
    assert_eq!(token.scope(), Some("read"));
    let agent = Authorized::new(service.client.clone(), source, &resource.origin()).unwrap();
    ok(agent.send(get_request(&resource.origin())).await.unwrap()).await;
    assert_eq!(
        (
            fixture.authority.exchanges(),
            fixture.authority.token_requests()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn each_incoming_token_is_exchanged_once_while_the_result_is_valid() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    let exchanges = Exchanges::new(service.settings(&fixture)).unwrap();
    let subjects = [incoming(&fixture), incoming(&fixture)];
    let ask = |subject: &AccessToken| {
        let source = exchanges.for_token(subject).unwrap();
        async move { source.token().await.unwrap() }
    };
    let tokens = join_all((0..100).map(|n| ask(&subjects[n % 2]))).await;
    assert_ne!(tokens[0], tokens[1]);
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(*token, tokens[n % 2]);
    }
    assert_eq!(fixture.authority.exchanges(), 2);
    assert!(Arc::ptr_eq(
        &exchanges.for_token(&subjects[0]).unwrap(),
        &exchanges.for_token(&subjects[0]).unwrap()
    ));
}

/// More subjects than signatures may run at a time: an idle source holds no place in the pool.
#[tokio::test]
async fn a_service_that_signs_assertions_exchanges_the_tokens_of_many_subjects() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    fixture.authority.register(Registration {
        resources: vec![SERVICE.to_owned()],
        authentication: bowline_testkit::authority::ClientAuthentication::private_key_jwt(
            &service.leaf,
        ),
        ..Registration::new("signing")
    });
    let server = AuthorizationServer::issuer(fixture.authority.issuer());
    let authentication = ClientAuthentication::certificate_key_jwt("signing");
    let settings = OAuth::builder(service.client.clone(), server, authentication)
        .clock(fixture.clock.to_clock());
    let exchanges = Exchanges::new(settings).unwrap();
    let ask = async |subject: AccessToken| exchanges.for_token(&subject).unwrap().token().await;
    for n in 0..40 {
        let answer = ask(incoming(&fixture)).await;
        answer.unwrap_or_else(|error| panic!("subject {n}: {error}"));
    }
    // And all at once.
    for answer in join_all((0..100).map(|_| ask(incoming(&fixture)))).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn an_actor_token_is_sent_and_checked() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    let own = service.settings(&fixture).build().unwrap();
    let source = service
        .settings(&fixture)
        .exchange(Fixed::new(incoming(&fixture)))
        .actor(own.clone())
        .build()
        .unwrap();
    source.token().await.unwrap();
    // One that is not its own is refused, so the server did check it.
    let other = Fixed::new(incoming(&fixture));
    let source = service
        .settings(&fixture)
        .exchange(Fixed::new(incoming(&fixture)))
        .actor(other)
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidRequest),
        "{error}"
    );
}

/// The actor is part of the new token, so it must not be lost.
#[tokio::test]
async fn an_actor_token_is_sent_in_any_order_of_settings_and_for_each_subject() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    // One that the authority refuses shows that it was sent.
    let settings = service
        .settings(&fixture)
        .actor(Fixed::new(incoming(&fixture)));
    let before = settings
        .clone()
        .exchange(Fixed::new(incoming(&fixture)))
        .build()
        .unwrap();
    let each = Exchanges::new(settings.clone())
        .unwrap()
        .for_token(&incoming(&fixture))
        .unwrap();
    for source in [&before, &*each] {
        let error = source.token().await.unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Refused(OAuthErrorCode::InvalidRequest),
            "{error}"
        );
        assert!(error.to_string().contains("actor_token"), "{error}");
    }
    // An actor alone has no subject to act for.
    let error = settings.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("actor"), "{error}");
}

/// The actor's token is requested for the new certificate as well.
#[tokio::test]
async fn replacing_a_certificate_requests_new_exchange_and_actor_tokens() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    let own = service.settings(&fixture).build().unwrap();
    let subject = Fixed::new(incoming(&fixture));
    let source = service
        .settings(&fixture)
        .exchange(subject)
        .actor(own)
        .build()
        .unwrap();
    assert_eq!(
        bound_to(&source.token().await.unwrap()),
        service.leaf.thumbprint()
    );
    let next = fixture.pki.client("service", KeyKind::P256);
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    replace_identity(&service.client, &sources, identity(&next))
        .await
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), next.thumbprint());
    assert_eq!(fixture.authority.token_requests(), 4);
}

#[tokio::test]
async fn a_stolen_subject_token_is_refused_and_an_expired_one_costs_no_request() {
    let fixture = Fixture::new();
    let service = Service::new(&fixture);
    // T6: neither bound to the service's certificate nor issued for it (AS-2).
    let stolen = TokenRequest::session_bound("agent", fixture.agent.thumbprint());
    let stolen = AccessToken::new(fixture.authority.issue(&stolen)).unwrap();
    let source = service
        .settings(&fixture)
        .exchange(Fixed::new(stolen.clone()))
        .build()
        .unwrap();
    let error = source.token().await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Refused(OAuthErrorCode::InvalidRequest)
    );
    assert!(
        error.to_string().contains("AS-2") && !error.to_string().contains(stolen.secret()),
        "{error}"
    );

    let requests = fixture.authority.token_requests();
    let expired = TokenRequest::session_bound("agent", fixture.agent.thumbprint())
        .audience(SERVICE)
        .expired();
    let expired = AccessToken::new(fixture.authority.issue(&expired)).unwrap();
    let source = service
        .settings(&fixture)
        .exchange(Fixed::new(expired))
        .build()
        .unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(fixture.authority.token_requests(), requests);
}

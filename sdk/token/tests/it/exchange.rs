//! RFC 8693: a token for a token.

use std::sync::Arc;

use bowline_client::AccessToken;
use bowline_proof::Demand;
use bowline_testkit::authority::{Client as Registration, TokenRequest};
use bowline_testkit::pki::{KeyKind, Leaf};
use bowline_token::{
    AuthorizationServer, Authorized, ClientAuthentication, ErrorKind, Exchanges, Fixed, OAuth,
    OAuthErrorCode, RequiredBinding, TokenSource, replace_identity,
};
use futures_util::future::join_all;

use crate::lab::{Lab, bound_to, get_request, identity, ok};

/// A service that is called with tokens of the agent's, and calls others.
struct Service {
    leaf: Leaf,
    client: bowline_client::Client,
}

const SERVICE: &str = "https://service.example";

impl Service {
    fn new(lab: &Lab) -> Self {
        lab.authority.register(Registration {
            resources: vec![SERVICE.to_owned()],
            ..Registration::new("service")
        });
        let leaf = lab.pki.client("service", KeyKind::P256);
        let client = lab.client_of(&leaf);
        Self { leaf, client }
    }

    fn settings(&self, lab: &Lab) -> bowline_token::Builder {
        let server = AuthorizationServer::issuer(lab.authority.issuer());
        OAuth::builder(
            self.client.clone(),
            server,
            ClientAuthentication::tls("service"),
        )
        .clock(lab.hands.clock())
        .bound(RequiredBinding::Session)
    }
}

/// A token of the agent's that is addressed to the service.
fn incoming(lab: &Lab) -> AccessToken {
    let request = TokenRequest::session_bound("agent", lab.agent.thumbprint())
        .audience(SERVICE)
        .scope("read write");
    AccessToken::new(lab.authority.issue(&request)).unwrap()
}

#[tokio::test]
async fn a_service_exchanges_what_it_was_called_with_and_calls_the_next_one() {
    let lab = Lab::new();
    let (service, resource) = (Service::new(&lab), lab.resource());
    let source = service
        .settings(&lab)
        .resource(resource.origin())
        .scope("read")
        .exchange(Fixed::new(incoming(&lab)))
        .build()
        .unwrap();
    let token = source.token().await.unwrap();
    assert_eq!(token.access_token().demand(), Ok(Demand::Session), "TK-4");
    assert_eq!(bound_to(&token), service.leaf.thumbprint());
    assert_eq!(token.scope(), Some("read"));
    let agent = Authorized::new(service.client.clone(), source, &resource.origin()).unwrap();
    ok(agent.send(get_request(&resource.origin())).await.unwrap()).await;
    assert_eq!(
        (lab.authority.exchanges(), lab.authority.token_requests()),
        (1, 1)
    );
}

#[tokio::test]
async fn each_token_that_comes_in_is_exchanged_once_for_as_long_as_the_result_lasts() {
    let lab = Lab::new();
    let service = Service::new(&lab);
    let exchanges = Exchanges::new(service.settings(&lab)).unwrap();
    let subjects = [incoming(&lab), incoming(&lab)];
    let ask = |subject: &AccessToken| {
        let source = exchanges.of(subject).unwrap();
        async move { source.token().await.unwrap() }
    };
    let tokens = join_all((0..100).map(|n| ask(&subjects[n % 2]))).await;
    assert_ne!(tokens[0], tokens[1]);
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(*token, tokens[n % 2]);
    }
    assert_eq!(lab.authority.exchanges(), 2);
    assert!(Arc::ptr_eq(
        &exchanges.of(&subjects[0]).unwrap(),
        &exchanges.of(&subjects[0]).unwrap()
    ));
}

/// More subjects than keys may hang: idle sources are not signing.
#[tokio::test]
async fn a_service_that_signs_assertions_exchanges_the_tokens_of_many_subjects() {
    let lab = Lab::new();
    let service = Service::new(&lab);
    lab.authority.register(Registration {
        resources: vec![SERVICE.to_owned()],
        authentication: bowline_testkit::authority::ClientAuthentication::private_key_jwt(
            &service.leaf,
        ),
        ..Registration::new("signing")
    });
    let server = AuthorizationServer::issuer(lab.authority.issuer());
    let authentication = ClientAuthentication::certificate_key_jwt("signing");
    let settings =
        OAuth::builder(service.client.clone(), server, authentication).clock(lab.hands.clock());
    let exchanges = Exchanges::new(settings).unwrap();
    let ask = async |subject: AccessToken| exchanges.of(&subject).unwrap().token().await;
    for n in 0..40 {
        let answer = ask(incoming(&lab)).await;
        answer.unwrap_or_else(|error| panic!("subject {n}: {error}"));
    }
    // And all at once.
    for answer in join_all((0..100).map(|_| ask(incoming(&lab)))).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn an_actor_is_named_by_a_token_of_its_own() {
    let lab = Lab::new();
    let service = Service::new(&lab);
    let own = service.settings(&lab).build().unwrap();
    let source = service
        .settings(&lab)
        .exchange(Fixed::new(incoming(&lab)))
        .actor(own.clone())
        .build()
        .unwrap();
    source.token().await.unwrap();
    // And one that is not its own is refused, so it was looked at.
    let other = Fixed::new(incoming(&lab));
    let source = service
        .settings(&lab)
        .exchange(Fixed::new(incoming(&lab)))
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

/// It is part of what the new token says, so it must not get lost.
#[tokio::test]
async fn an_actor_is_named_in_whatever_order_it_was_said_and_for_each_subject() {
    let lab = Lab::new();
    let service = Service::new(&lab);
    // One that the authority refuses shows that it was sent.
    let settings = service.settings(&lab).actor(Fixed::new(incoming(&lab)));
    let before = settings
        .clone()
        .exchange(Fixed::new(incoming(&lab)))
        .build()
        .unwrap();
    let each = Exchanges::new(settings.clone())
        .unwrap()
        .of(&incoming(&lab))
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
    // For whom would it act?
    let error = settings.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("actor"), "{error}");
}

/// The new token's own certificate goes with an actor's token for that same one.
#[tokio::test]
async fn a_certificate_is_replaced_under_an_exchange_and_its_actor() {
    let lab = Lab::new();
    let service = Service::new(&lab);
    let own = service.settings(&lab).build().unwrap();
    let subject = Fixed::new(incoming(&lab));
    let source = service
        .settings(&lab)
        .exchange(subject)
        .actor(own)
        .build()
        .unwrap();
    assert_eq!(
        bound_to(&source.token().await.unwrap()),
        service.leaf.thumbprint()
    );
    let next = lab.pki.client("service", KeyKind::P256);
    let sources: [Arc<dyn TokenSource>; 1] = [Arc::new(source.clone())];
    replace_identity(&service.client, &sources, identity(&next))
        .await
        .unwrap();
    assert_eq!(bound_to(&source.token().await.unwrap()), next.thumbprint());
    assert_eq!(lab.authority.token_requests(), 4);
}

#[tokio::test]
async fn a_subject_that_cannot_be_exchanged_is_refused_and_one_that_cannot_be_had_costs_no_request()
{
    let lab = Lab::new();
    let service = Service::new(&lab);
    // T6: neither bound nor addressed to the one who asks (AS-2).
    let stolen = TokenRequest::session_bound("agent", lab.agent.thumbprint());
    let stolen = AccessToken::new(lab.authority.issue(&stolen)).unwrap();
    let source = service
        .settings(&lab)
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

    let requests = lab.authority.token_requests();
    let expired = TokenRequest::session_bound("agent", lab.agent.thumbprint())
        .audience(SERVICE)
        .expired();
    let expired = AccessToken::new(lab.authority.issue(&expired)).unwrap();
    let source = service
        .settings(&lab)
        .exchange(Fixed::new(expired))
        .build()
        .unwrap();
    assert_eq!(source.token().await.unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(lab.authority.token_requests(), requests);
}

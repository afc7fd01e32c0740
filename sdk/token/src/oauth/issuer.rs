//! One token request (RFC 6749 §4.4, RFC 8693 §2.1).

use std::fmt;
use std::sync::Arc;

use bowline_client::bind::TokenSourceId;
use bowline_client::{
    Client, DpopProofRequired, ErrorKind as ClientErrorKind, Operation, Protocol, WithCertificate,
};
use bowline_proof::AssertionKey;
use bytes::Bytes;
use form_urlencoded::Serializer;
use futures_util::future::BoxFuture;
use http::{Request, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::Builder;
use super::answer::{self, ACCESS_TOKEN, Expectation, RequiredBinding};
use super::authentication::ASSERTION_TYPE;
use super::http::{Answer, What, exchange, within};
use super::metadata::Wish;
use super::server::Endpoint;
use crate::cache::{Held, Holder, Issue, Occasion};
use crate::{Error, ErrorKind, Token, TokenSource};

/// How token requests are counted by the client.
const OPERATION: Operation = Operation::new(Protocol::HTTP, "token");

/// What entitles to a token.
#[derive(Clone)]
pub(super) enum Grant {
    ClientCredentials,
    Exchange { subject: Arc<dyn TokenSource> },
}

pub(super) struct Issuer {
    pub(super) client: Client,
    settings: Builder,
    id: TokenSourceId,
}

/// The tokens that go into a request.
struct Presented {
    subject: Option<Token>,
    actor: Option<Token>,
}

impl Issue for Issuer {
    fn issue(
        self: Arc<Self>,
        holder: Holder,
        _: Occasion,
    ) -> BoxFuture<'static, Result<Held, Error>> {
        Box::pin(async move {
            let server = &self.settings.server;
            let what = What {
                name: match server.resource() {
                    Some(_) => "an authorization server of the resource",
                    None => "the authorization server",
                },
                url: server.url(),
            };
            within(self.settings.timeout, &what, self.ask(&holder)).await
        })
    }
}

impl Issuer {
    pub(super) fn new(settings: Builder, id: TokenSourceId) -> Self {
        Self {
            client: settings.client.clone(),
            settings,
            id,
        }
    }

    async fn ask(&self, holder: &Holder) -> Result<Held, Error> {
        let Builder {
            server,
            authentication,
            grant,
            actor,
            timeout,
            clock,
            ..
        } = &self.settings;
        let key = authentication.key(holder)?;
        let wish = Wish {
            grant_type: grant.name(),
            method: authentication.method(),
            algorithm: key.as_ref().map(|key| key.algorithm().name()),
            mutual_tls: holder.0.is_some(),
        };
        let endpoint = server
            .endpoint(&self.client, &wish, clock, *timeout)
            .await?;
        let presented = grant.tokens(actor.as_ref(), holder).await?;
        let issued = self.ask_at(&endpoint, key, holder, &presented).await;
        // What answered, or did not, may not be the token endpoint any more.
        let is_in_doubt =
            |error: &Error| matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol);
        if issued.as_ref().is_err_and(is_in_doubt) {
            server.doubt().await;
        }
        issued
    }

    async fn ask_at(
        &self,
        endpoint: &Endpoint,
        key: Option<AssertionKey>,
        holder: &Holder,
        presented: &Presented,
    ) -> Result<Held, Error> {
        let url = endpoint.uri.to_string();
        let what = What {
            name: "the token endpoint",
            url: &url,
        };
        let asked_at = self.settings.clock.now();
        let (answer, assertion) = self.send(endpoint, &what, key, holder, presented).await?;
        let mut secrets: Vec<&str> = presented
            .all()
            .map(|token| token.access_token().secret())
            .collect();
        secrets.extend(assertion.as_deref().map(String::as_str));
        let expected = Expectation {
            bound: self.settings.bound,
            holder,
            is_exchange: presented.subject.is_some(),
            secrets: &secrets,
            asked_at,
            source: self.id,
        };
        answer::read(&answer, &what, &expected)
    }

    /// Sends it, and once more, with a new assertion, if nobody knows what became of it: to ask
    /// twice does no harm, and a connection that was not used for most of a token's life may well
    /// be dead.
    async fn send(
        &self,
        endpoint: &Endpoint,
        what: &What<'_>,
        key: Option<AssertionKey>,
        holder: &Holder,
        presented: &Presented,
    ) -> Result<(Answer, Option<Zeroizing<String>>), Error> {
        let mut again = false;
        loop {
            let assertion = match &key {
                Some(key) => {
                    let Builder {
                        authentication,
                        clock,
                        timeout,
                        ..
                    } = &self.settings;
                    // Half of what all of it may take: so it is the key that is named if it hangs.
                    let signing =
                        authentication.assertion(key.clone(), endpoint, clock, *timeout / 2);
                    Some(signing.await?)
                }
                None => None,
            };
            let form = self.form(assertion.as_deref().map(String::as_str), presented);
            let request = self.request(endpoint, holder, form)?;
            match exchange(&self.client, request, what).await {
                Ok(answer) => return Ok((answer, assertion)),
                Err(error) if !again && was_lost(&error) => again = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        holder: &Holder,
        form: String,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::post(endpoint.uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|e| {
                Error::because(
                    ErrorKind::Metadata,
                    "the token endpoint's URL cannot be used",
                    e,
                )
            })?;
        let extensions = request.extensions_mut();
        extensions.insert(OPERATION);
        if let Some(certificate) = holder.thumbprint() {
            extensions.insert(WithCertificate(certificate)); // AS-1
        }
        if self.settings.bound == RequiredBinding::Dpop {
            extensions.insert(DpopProofRequired);
        }
        Ok(request)
    }

    fn form(&self, assertion: Option<&str>, presented: &Presented) -> String {
        let Builder {
            authentication,
            grant,
            resources,
            audiences,
            scope,
            ..
        } = &self.settings;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", grant.name());
        form.append_pair("client_id", &authentication.client_id);
        if let Some(assertion) = assertion {
            form.append_pair("client_assertion_type", ASSERTION_TYPE);
            form.append_pair("client_assertion", assertion);
        }
        if let Some(subject) = &presented.subject {
            form.append_pair("subject_token", subject.access_token().secret());
            form.append_pair("subject_token_type", ACCESS_TOKEN);
            form.append_pair("requested_token_type", ACCESS_TOKEN);
        }
        if let Some(actor) = &presented.actor {
            form.append_pair("actor_token", actor.access_token().secret());
            form.append_pair("actor_token_type", ACCESS_TOKEN);
        }
        for resource in resources {
            form.append_pair("resource", resource);
        }
        for audience in audiences {
            form.append_pair("audience", audience);
        }
        if let Some(scope) = scope {
            form.append_pair("scope", scope);
        }
        form.finish()
    }
}

fn was_lost(error: &Error) -> bool {
    error
        .client()
        .is_some_and(|error| error.kind() == ClientErrorKind::MayHaveBeenProcessed)
}

impl Grant {
    fn name(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Exchange { .. } => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// For the same certificate as the request: it may be what they are bound to (AS-2).
    async fn tokens(
        &self,
        actor: Option<&Arc<dyn TokenSource>>,
        holder: &Holder,
    ) -> Result<Presented, Error> {
        let Self::Exchange { subject } = self else {
            return Ok(Presented {
                subject: None,
                actor: None,
            });
        };
        let subject = token(subject, holder).await?;
        let actor = match actor {
            Some(actor) => Some(token(actor, holder).await?),
            None => None,
        };
        Ok(Presented {
            subject: Some(subject),
            actor,
        })
    }
}

async fn token(source: &Arc<dyn TokenSource>, holder: &Holder) -> Result<Token, Error> {
    match &holder.0 {
        Some(identity) => source.token_for(identity.clone()).await,
        None => source.token().await,
    }
}

impl Presented {
    fn all(&self) -> impl Iterator<Item = &Token> {
        self.subject.iter().chain(&self.actor)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

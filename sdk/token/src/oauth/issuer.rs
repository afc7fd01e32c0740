//! One token request (RFC 6749 §4.4, §6, RFC 8693 §2.1).

use std::fmt;
use std::sync::Arc;

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{
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
use super::authentication::ASSERTION_TYPE;
use super::http::{JsonResponse, RequestLabel, send, with_timeout};
use super::metadata::Requirements;
#[cfg(unix)]
use super::refresh::store::SeedStore;
use super::server::Endpoint;
use super::token_response::{self, ACCESS_TOKEN, Expected, RequiredBinding};
use crate::cache::{CachedToken, Certificate, TokenIssuer, Trigger};
use crate::{Error, ErrorKind, OAuthErrorCode, Token, TokenSource};

/// The label under which the client counts token requests.
const OPERATION: Operation = Operation::new(Protocol::HTTP, "token");

/// The grant of a token request.
#[derive(Clone)]
pub(super) enum Grant {
    ClientCredentials,
    Exchange {
        subject: Arc<dyn TokenSource>,
    },
    #[cfg(unix)]
    Refresh(Arc<SeedStore>),
}

pub(super) struct Issuer {
    pub(super) client: Client,
    pub(super) settings: Builder,
    pub(super) id: TokenSourceId,
}

/// An answered request.
pub(super) struct Sent {
    pub(super) response: JsonResponse,
    pub(super) assertion: Option<Zeroizing<String>>,
    /// The connection of the first request ended before a response came.
    #[cfg_attr(not(unix), expect(dead_code, reason = "for the refresh grant"))]
    pub(super) is_second: bool,
}

/// The tokens that a request presents.
#[derive(Default)]
pub(super) struct RequestTokens {
    pub(super) subject: Option<Token>,
    pub(super) actor: Option<Token>,
    pub(super) refresh: Option<Zeroizing<String>>,
}

impl TokenIssuer for Issuer {
    fn issue(
        self: Arc<Self>,
        certificate: Certificate,
        trigger: Trigger,
    ) -> BoxFuture<'static, Result<CachedToken, Error>> {
        Box::pin(async move {
            match &self.settings.grant {
                #[cfg(unix)]
                Grant::Refresh(store) => self.refresh(store, &certificate, &trigger).await,
                _ => self.within_limit(self.request_token(&certificate)).await,
            }
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

    /// Runs `doing` with the time limit of a request.
    pub(super) async fn within_limit<T>(
        &self,
        doing: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let server = &self.settings.server;
        let label = RequestLabel {
            name: match server.resource() {
                Some(_) => "an authorization server of the resource",
                None => "the authorization server",
            },
            url: server.url(),
        };
        with_timeout(self.settings.timeout, &label, doing).await
    }

    async fn request_token(&self, certificate: &Certificate) -> Result<CachedToken, Error> {
        let Builder { grant, actor, .. } = &self.settings;
        let (endpoint, key) = self.endpoint(certificate).await?;
        let tokens = grant.tokens(actor.as_ref(), certificate).await?;
        let issued = self
            .request_token_at(&endpoint, key, certificate, &tokens)
            .await;
        match issued {
            Ok(issued) => Ok(issued),
            Err(error) => Err(self.noting_move(error).await),
        }
    }

    /// The token endpoint, and the key that signs the client's assertion there.
    pub(super) async fn endpoint(
        &self,
        certificate: &Certificate,
    ) -> Result<(Endpoint, Option<AssertionKey>), Error> {
        let Builder {
            server,
            authentication,
            grant,
            timeout,
            clock,
            ..
        } = &self.settings;
        let key = authentication.key(certificate)?;
        let required = Requirements {
            grant_type: grant.name(),
            method: authentication.method(),
            algorithm: key.as_ref().map(|key| key.algorithm().name()),
            mutual_tls: certificate.0.is_some(),
        };
        let endpoint = server
            .endpoint(&self.client, &required, clock, *timeout)
            .await?;
        Ok((endpoint, key))
    }

    /// The error of a token request, which may mean that the endpoint has moved.
    pub(super) async fn noting_move(&self, error: Error) -> Error {
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol) {
            self.settings.server.invalidate().await;
        }
        error
    }

    async fn request_token_at(
        &self,
        endpoint: &Endpoint,
        key: Option<AssertionKey>,
        certificate: &Certificate,
        tokens: &RequestTokens,
    ) -> Result<CachedToken, Error> {
        let url = endpoint.uri.to_string();
        let label = RequestLabel {
            name: "the token endpoint",
            url: &url,
        };
        let asked_at = self.settings.clock.now();
        let sent = self.send(endpoint, &label, key, certificate, tokens);
        let Sent {
            response,
            assertion,
            ..
        } = sent.await?;
        let mut secrets: Vec<&str> = tokens
            .all()
            .map(|token| token.access_token().secret())
            .collect();
        secrets.extend(assertion.as_deref().map(String::as_str));
        let expected = Expected {
            required: self.settings.bound,
            certificate,
            is_exchange: tokens.subject.is_some(),
            secrets: &secrets,
            asked_at,
            source: self.id,
            on_invalid_grant: OAuthErrorCode::InvalidGrant.advice(),
        };
        token_response::read(&response, &label, &expected)
    }

    /// Sends the request. A request for the client's own token is sent once more, with a new
    /// assertion, if the connection ended before a response came: a second token does no harm, and
    /// a connection that was idle for most of a token's lifetime may well be dead.
    ///
    /// An exchange is not (CL-7): the server may accept a subject or actor token once, and would
    /// refuse the second request after it had issued a token to the first. A refresh token is sent
    /// again although that holds for it too: if the answer to the first request is lost, so is the
    /// refresh token in it, and there is no other to go on with.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        label: &RequestLabel<'_>,
        key: Option<AssertionKey>,
        certificate: &Certificate,
        tokens: &RequestTokens,
    ) -> Result<Sent, Error> {
        let may_resend = tokens.subject.is_none();
        let mut is_second = false;
        loop {
            let assertion = match &key {
                Some(key) => {
                    let Builder {
                        authentication,
                        clock,
                        timeout,
                        ..
                    } = &self.settings;
                    // Half of the time for all of it, so that if the key hangs the error names the
                    // key.
                    let signing =
                        authentication.assertion(key.clone(), endpoint, clock, *timeout / 2);
                    Some(signing.await?)
                }
                None => None,
            };
            let form = self.form(assertion.as_deref().map(String::as_str), tokens);
            let request = self.request(endpoint, certificate, form)?;
            match send(&self.client, request, label).await {
                Ok(response) => {
                    return Ok(Sent {
                        response,
                        assertion,
                        is_second,
                    });
                }
                Err(error) if may_resend && !is_second && was_lost(&error) => is_second = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        certificate: &Certificate,
        form: String,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::post(endpoint.uri.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|e| {
                Error::with_source(
                    ErrorKind::Metadata,
                    "the token endpoint's URL cannot be used",
                    e,
                )
            })?;
        let extensions = request.extensions_mut();
        extensions.insert(OPERATION);
        if let Some(certificate) = certificate.thumbprint() {
            extensions.insert(WithCertificate(certificate)); // AS-1
        }
        if self.settings.bound == RequiredBinding::Dpop {
            extensions.insert(DpopProofRequired);
        }
        Ok(request)
    }

    fn form(&self, assertion: Option<&str>, tokens: &RequestTokens) -> String {
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
        if let Some(subject) = &tokens.subject {
            form.append_pair("subject_token", subject.access_token().secret());
            form.append_pair("subject_token_type", ACCESS_TOKEN);
            form.append_pair("requested_token_type", ACCESS_TOKEN);
        }
        if let Some(refresh) = &tokens.refresh {
            form.append_pair("refresh_token", refresh);
        }
        if let Some(actor) = &tokens.actor {
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
            #[cfg(unix)]
            Self::Refresh(_) => "refresh_token",
        }
    }

    /// The tokens for the certificate of the request: they may be bound to it (AS-2).
    async fn tokens(
        &self,
        actor: Option<&Arc<dyn TokenSource>>,
        certificate: &Certificate,
    ) -> Result<RequestTokens, Error> {
        let Self::Exchange { subject } = self else {
            return Ok(RequestTokens::default());
        };
        let subject = token(subject, certificate).await?;
        let actor = match actor {
            Some(actor) => Some(token(actor, certificate).await?),
            None => None,
        };
        Ok(RequestTokens {
            subject: Some(subject),
            actor,
            refresh: None,
        })
    }
}

async fn token(source: &Arc<dyn TokenSource>, certificate: &Certificate) -> Result<Token, Error> {
    match &certificate.0 {
        Some(identity) => source.token_for(identity.clone()).await,
        None => source.token().await,
    }
}

impl RequestTokens {
    fn all(&self) -> impl Iterator<Item = &Token> {
        self.subject.iter().chain(&self.actor)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

//! Authorization with rmcp's own manager, on demand: the server's challenge starts it.

use std::sync::Arc;

use bowline_http_client::{Client, DpopProofRequired};
use bowline_mcp::OAuthHttp;
use http::header::{CONTENT_TYPE, LOCATION};
use rmcp::transport::AuthClient;
use rmcp::transport::auth::{
    AuthorizationCallback, AuthorizationRequest, ClientCredentialsConfig, OAuthHttpClient,
    OAuthHttpClientFuture, OAuthHttpRequest, OAuthState,
};
use rmcp::transport::streamable_http_client::StreamableHttpClient;

use crate::session::{self, Failed};
use crate::{Error, Scenario};

/// Nothing listens there; the client reads the redirect itself instead of a browser.
const REDIRECT: &str = "http://localhost:3000/callback";
/// The metadata document that the suite's authorization servers expect.
const CLIENT_METADATA: &str = "https://conformance-test.local/client-metadata.json";
/// Maximum number of authorizations for a server that demands more each time.
const MAX_AUTHORIZATIONS: usize = 3;

pub(crate) struct Authorizations<'a> {
    oauth: Arc<dyn OAuthHttpClient>,
    scenario: &'a Scenario,
}

impl<'a> Authorizations<'a> {
    pub(crate) fn new(oauth: Arc<dyn OAuthHttpClient>, scenario: &'a Scenario) -> Self {
        Self { oauth, scenario }
    }

    /// Runs a session, and authorizes whenever the server demands it.
    pub(crate) async fn on_demand<C>(&self, http: C, scenario: &Scenario) -> Result<(), Error>
    where
        C: StreamableHttpClient + Clone + Send + Sync + 'static,
    {
        let mut challenge = match session::run(http.clone(), scenario).await {
            Err(Failed::Unauthorized(challenge)) => challenge,
            other => return Ok(other?),
        };
        for _ in 0..MAX_AUTHORIZATIONS {
            let authorized = self.by_code(http.clone(), challenge).await?;
            challenge = match session::run(authorized, scenario).await {
                Err(Failed::Unauthorized(challenge)) => challenge,
                other => return Ok(other?),
            };
        }
        Ok(())
    }

    /// The authorization code grant, with a browser that agrees to everything.
    async fn by_code<C>(&self, http: C, challenge: String) -> Result<AuthClient<C>, Error>
    where
        C: StreamableHttpClient + Send + Sync,
    {
        let mut state = self.state().await?;
        let context = &self.scenario.context;
        let mut request = AuthorizationRequest::new(REDIRECT).with_challenge(challenge);
        request = match (&context.client_id, &context.client_secret) {
            (Some(id), Some(secret)) => request
                .with_preregistered_client(id)
                .with_client_secret(secret),
            _ => request
                .with_client_name("bowline")
                .with_client_metadata_url(CLIENT_METADATA),
        };
        state.start_authorization(request).await?;
        let callback = agreed(&state.get_authorization_url().await?).await?;
        let (code, csrf) = (&callback.code, &callback.csrf_token);
        state
            .handle_callback_with_issuer(code, csrf, callback.issuer.as_deref())
            .await?;
        authorized(http, state)
    }

    /// The client credentials grant.
    pub(crate) async fn with_secret<C>(&self, http: C) -> Result<AuthClient<C>, Error>
    where
        C: StreamableHttpClient + Send + Sync,
    {
        let context = &self.scenario.context;
        let config = ClientCredentialsConfig::ClientSecret {
            client_id: context
                .client_id
                .clone()
                .ok_or("the suite gave no client_id")?,
            client_secret: context
                .client_secret
                .clone()
                .ok_or("the suite gave no client_secret")?,
            scopes: Vec::new(),
            resource: Some(self.scenario.url.clone()),
        };
        let mut state = self.state().await?;
        state.authenticate_client_credentials(config).await?;
        authorized(http, state)
    }

    async fn state(&self) -> Result<OAuthState, Error> {
        let oauth = self.oauth.clone();
        Ok(OAuthState::new_with_oauth_http_client(&self.scenario.url, oauth).await?)
    }
}

fn authorized<C>(http: C, state: OAuthState) -> Result<AuthClient<C>, Error> {
    let manager = state
        .into_authorization_manager()
        .ok_or("rmcp has no authorization")?;
    Ok(AuthClient::new(http, manager))
}

/// The URL that a browser would be redirected to.
async fn agreed(url: &str) -> Result<AuthorizationCallback, Error> {
    let browser = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let response = browser.get(url).send().await?;
    let location = response
        .headers()
        .get(LOCATION)
        .ok_or("the authorization server does not redirect")?;
    Ok(AuthorizationCallback::from_redirect_url(
        location.to_str()?,
    )?)
}

/// bowline's HTTP client for rmcp's authorization manager, with a DPoP proof on each token request
/// (RFC 9449 §5). A server without DPoP ignores it.
pub(crate) struct Proving(OAuthHttp);

impl Proving {
    pub(crate) fn over(client: Client) -> Self {
        Self(OAuthHttp::new(client))
    }
}

impl OAuthHttpClient for Proving {
    fn execute(&self, mut request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        let form = "application/x-www-form-urlencoded";
        let is_token_request = request
            .request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|is| is == form);
        if is_token_request {
            request.request.extensions_mut().insert(DpopProofRequired);
        }
        self.0.execute(request)
    }
}

//! The refresh grant (RFC 6749 §6) with a refresh token that lives in a file, the seed.
//!
//! A server that rotates accepts a refresh token once, so the seed is read, sent and replaced under
//! a lock, and an access token is given out only once the seed that came with it is on disk:
//!
//! ```text
//! read the seed      another process has requested a token for the same: take it, no lock
//! find the endpoint
//! lock the seed      wait for as long as another process's request may take
//! read it again      the same; and put in place what a killed process has written
//! make .NAME.next    on a file system that is read-only or full it ends here
//! send               within the time-out, which is shorter than the wait for the lock
//! write .NAME.next   between the server's answer and the end of this an answer can be lost
//! rename, unlock
//! ```
//!
//! Where no answer came, or it was lost, the refresh token may be used up. There is no other, so it
//! is sent again: a server that accepts it for a while yet, or that never got the request, answers
//! with a new one. A server that takes it for a stolen one (RFC 9700 §4.14.2) refuses it, and then
//! a sign-in is needed.
//!
//! - [`seed`]: what a seed file holds.
//! - [`file`]: how it is read, locked and replaced.
//! - [`store`]: the same without blocking, and what is kept in memory.

mod file;
mod seed;
pub(super) mod store;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::http::RequestLabel;
use super::issuer::{Issuer, RequestTokens, Sent};
use super::token_response::{self, Expected, times};
use crate::cache::{CachedToken, Certificate, Times, Trigger};
use crate::{Error, ErrorKind, Token};
use file::Found;
use seed::{Issued, IssuedFor, Seed};
pub use store::SeedOwner;
use store::SeedStore;

/// How much longer than its own request a source waits for the lock: while another process's request
/// hangs, until its time-out, and reads and writes its files.
const LOCK_MARGIN: Duration = Duration::from_secs(15);

/// A token that is younger is not replaced because the resource refuses it.
const SETTLING: Duration = Duration::from_secs(30);

impl Issuer {
    /// A token by the refresh grant, or one that another process has requested with the same seed.
    pub(super) async fn refresh(
        &self,
        store: &SeedStore,
        certificate: &Certificate,
        trigger: &Trigger,
    ) -> Result<CachedToken, Error> {
        let wanted = Wanted {
            issuer: self,
            certificate,
            request: self.issued_for(certificate),
            replaced: trigger.replaced(),
        };
        let seed = store.read().await?;
        if let Some(token) = wanted.take_from(&seed, store.path())? {
            return Ok(token);
        }
        store.refusal(&seed)?;
        let (endpoint, key) = self.within_limit(self.endpoint(certificate)).await?;

        let locked = store.lock(self.settings.timeout + LOCK_MARGIN).await?;
        let (
            locked,
            Found {
                seed,
                is_unanswered,
            },
        ) = store.read_locked(locked).await?;
        if let Some(token) = wanted.take_from(&seed, store.path())? {
            return Ok(token);
        }
        store.refusal(&seed)?;
        if !seed.is_of(endpoint.issuer.as_deref()) {
            return Err(other_server(store.path(), &seed));
        }
        let reserved = {
            let seed = seed.clone();
            let reserve = move || locked.reserve(&seed);
            store
                .with_file("making the seed's successor", reserve)
                .await?
        };

        let url = endpoint.uri.to_string();
        let label = RequestLabel {
            name: "the token endpoint",
            url: &url,
        };
        let asked_at = self.settings.clock.now();
        let tokens = RequestTokens {
            refresh: Some(Zeroizing::new(seed.refresh_token().to_owned())),
            ..RequestTokens::default()
        };
        let sent = self.send(&endpoint, &label, key, certificate, &tokens);
        let Sent {
            response,
            assertion,
            is_second,
        } = match self.within_limit(sent).await {
            Ok(sent) => sent,
            // The mark stays.
            Err(error) => return Err(self.noting_move(error).await),
        };
        let is_unanswered = is_unanswered || is_second;
        let next = token_response::refresh_token(&response);
        let mut secrets = vec![seed.refresh_token()];
        secrets.extend(next.as_deref().map(String::as_str));
        secrets.extend(assertion.as_deref().map(String::as_str));
        let expected = Expected {
            required: self.settings.bound,
            certificate,
            is_exchange: false,
            secrets: &secrets,
            asked_at,
            source: self.id,
            on_invalid_grant: &on_invalid_grant(store.path(), is_unanswered),
        };
        let issued = token_response::read(&response, &label, &expected);
        let issued = match (issued, &next) {
            (Ok(issued), _) => Ok(settling(issued, asked_at)),
            // The refresh token counts even where the access token cannot be used.
            (Err(error), Some(_)) => Err(error),
            (Err(error), None) => {
                store
                    .note_refusal(reserved, &seed, &error, is_unanswered)
                    .await;
                return Err(self.noting_move(error).await);
            }
        };
        let stored = issued
            .as_ref()
            .ok()
            .and_then(|cached| Issued::new(&cached.token, asked_at, wanted.request.clone()));
        store
            .replace(reserved, seed.succeeded_by(next, stored))
            .await?;
        issued
    }

    fn issued_for(&self, certificate: &Certificate) -> IssuedFor {
        IssuedFor {
            resources: self.settings.resources.clone(),
            audiences: self.settings.audiences.clone(),
            scope: self.settings.scope.clone(),
            certificate: certificate.thumbprint().map(|it| it.to_string()),
            bound: format!("{:?}", self.settings.bound),
        }
    }
}

/// What a source needs, when it looks into a seed.
struct Wanted<'a> {
    issuer: &'a Issuer,
    certificate: &'a Certificate,
    request: IssuedFor,
    /// The token that is to be replaced.
    replaced: Option<&'a Token>,
}

impl Wanted<'_> {
    /// The access token in a seed, if it is good for this source.
    ///
    /// # Errors
    /// The seed is another client's.
    fn take_from(&self, seed: &Seed, path: &Path) -> Result<Option<CachedToken>, Error> {
        let settings = &self.issuer.settings;
        seed.check(&settings.authentication.client_id, &settings.server, path)?;
        let Some(issued) = seed.issued_for(&self.request) else {
            return Ok(None);
        };
        let token = issued.token(self.issuer.id, self.certificate.thumbprint());
        let Some(token) = token.filter(|token| self.replaced != Some(token)) else {
            return Ok(None);
        };
        let now = settings.clock.now();
        let cached = settling(CachedToken::new(token, Times::NEVER), issued.requested_at());
        // A clock that was set back makes it a token from the future, of unknown age.
        let is_good =
            issued.requested_at() <= now && cached.times.refresh_at.is_none_or(|at| now < at);
        Ok(is_good.then_some(cached))
    }
}

/// The token with the times of this grant: it is replaced a little earlier or later than those that
/// were issued at the same time to others, so that they do not all ask at once.
fn settling(mut cached: CachedToken, requested_at: SystemTime) -> CachedToken {
    let lifetime = cached
        .token
        .expires_at()
        .map(|at| at.duration_since(requested_at));
    cached.times = match lifetime {
        None => Times::NEVER,
        Some(lifetime) => times(lifetime.unwrap_or_default(), requested_at, fastrand::f64()),
    };
    cached.settled_at = requested_at.checked_add(SETTLING);
    cached
}

/// What to do about `invalid_grant`.
fn on_invalid_grant(path: &Path, is_unanswered: bool) -> String {
    let path = path.display();
    let why = match is_unanswered {
        false => "has expired, was revoked, or was used by somebody else",
        true => {
            "was used up, as it seems, by an earlier request whose answer was lost (a server that \
             accepts a used one for a short while would have spared this)"
        }
    };
    format!(
        "the refresh token in the seed {path} {why}: sign in again, and put a new one there; nothing \
         more is requested with this one"
    )
}

fn other_server(path: &Path, seed: &Seed) -> Error {
    let message = format!(
        "the seed {} is of the authorization server {}, and the one that was found is another: its \
         refresh token is not sent",
        path.display(),
        crate::shared::text::printable_url(seed.issuer())
    );
    Error::new(ErrorKind::Configuration, message)
}

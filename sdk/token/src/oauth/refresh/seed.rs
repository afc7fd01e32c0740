//! The contents of a seed file: a refresh token, whose it is, and the access token that came with
//! it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Scheme, Thumbprint};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::super::AuthorizationServer;
use crate::shared::text::{printable_ascii, printable_url};
use crate::{Error, ErrorKind, Token};

/// A seed file, in JSON. A user writes the first three members; other members of a user's are not
/// kept.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Seed {
    client_id: String,
    /// The issuer identifier of the only server that gets the refresh token, or its token endpoint
    /// where that is what is configured (CL-10).
    issuer: String,
    refresh_token: String,
    /// The [hash](Self::hash) of the refresh token before this one. Without it a file that a
    /// process left behind could not be told from one that a new sign-in has outdated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// For the other processes that use this seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[zeroize(skip)]
    issued: Option<Issued>,
}

/// An access token, and what it was requested for.
#[derive(Clone, Serialize, Deserialize, ZeroizeOnDrop)]
pub(super) struct Issued {
    access_token: String,
    /// Seconds since 1970.
    #[zeroize(skip)]
    requested_at: u64,
    /// Seconds since 1970; `None`: the server did not say.
    #[zeroize(skip)]
    expires_at: Option<u64>,
    #[zeroize(skip)]
    scope: Option<String>,
    #[zeroize(skip)]
    request: IssuedFor,
}

/// What decides which access token a request gets. A process takes another's token only if it would
/// have asked for the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IssuedFor {
    pub(super) resources: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) scope: Option<String>,
    /// The thumbprint of the certificate that the request presented.
    pub(super) certificate: Option<String>,
    /// What the token had to be bound to.
    pub(super) bound: String,
}

/// What stands in place of the next seed while a request is under way.
#[derive(Deserialize)]
struct Mark {
    /// The hash of the refresh token that was sent.
    requested_with: String,
}

impl Seed {
    /// Reads what a user, or this source, has written.
    ///
    /// # Errors
    /// [`ErrorKind::File`]. The message quotes nothing of the file.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let path = path.display();
        let seed: Self = serde_json::from_slice(bytes).map_err(|error| {
            let message = format!(
                "the seed {path} is no JSON object with the texts client_id, issuer and \
                 refresh_token, or is half written (line {}, column {})",
                error.line(),
                error.column()
            );
            Error::new(ErrorKind::File, message)
        })?;
        // RFC 6749 appendix A.17.
        let is_token =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        match is_token(&seed.refresh_token) {
            true => Ok(seed),
            false => Err(Error::new(
                ErrorKind::File,
                format!("the refresh_token in the seed {path} is empty, or not of visible ASCII"),
            )),
        }
    }

    /// What a process has left in place of the next seed.
    pub(super) fn left_behind(bytes: &[u8], before: &Self) -> LeftBehind {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(next) if next.replaces.as_deref() == Some(&before.hash()) => {
                return LeftBehind::Successor(Box::new(next));
            }
            Ok(_) => return LeftBehind::Outdated,
            Err(_) => {}
        }
        match serde_json::from_slice::<Mark>(bytes) {
            Ok(mark) if mark.requested_with != before.hash() => LeftBehind::Outdated,
            // Half an answer says as little as a mark.
            Ok(_) | Err(_) => LeftBehind::Unanswered,
        }
    }

    /// What stands in place of the next seed while a request with this one is under way: a mark,
    /// and white space for as much as the answer may need.
    pub(super) fn mark(&self) -> Vec<u8> {
        let mut mark = format!("{{\"requested_with\":\"{}\"}}\n", self.hash()).into_bytes();
        mark.resize(RESERVED_BYTES, b' ');
        mark
    }

    pub(super) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        // Room for all of it at once: a buffer that grows leaves copies of the tokens in memory.
        let mut json = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        serde_json::to_writer_pretty(&mut *json, self).expect("texts and numbers");
        json.push(b'\n');
        json
    }

    /// Whether it is this client's, at a server that is the one configured, as far as that is known
    /// before discovery.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`].
    pub(super) fn check(
        &self,
        client_id: &str,
        server: &AuthorizationServer,
        path: &Path,
    ) -> Result<(), Error> {
        let other = |whose: String| {
            let message = format!(
                "the seed {} is {whose}: its refresh token is not sent",
                path.display()
            );
            Error::new(ErrorKind::Configuration, message)
        };
        if self.client_id != client_id {
            return Err(other(format!(
                "of the client {}, and this client is {}",
                printable_ascii(&self.client_id),
                printable_ascii(client_id)
            )));
        }
        match server.may_be(&self.issuer) {
            true => Ok(()),
            false => Err(other(format!(
                "of the authorization server {}, which is not the one that is configured",
                printable_url(&self.issuer)
            ))),
        }
    }

    /// Whether the server that was chosen is the one that issued the refresh token; `issuer` is
    /// that of its metadata, if there is any.
    pub(super) fn is_of(&self, issuer: Option<&str>) -> bool {
        issuer.is_none_or(|issuer| issuer == self.issuer)
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    /// Names the refresh token without telling it.
    pub(super) fn hash(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.refresh_token.as_bytes());
        URL_SAFE_NO_PAD.encode(digest)
    }

    /// Whether it takes the place of `other`.
    pub(super) fn is_successor_of(&self, other: &Self) -> bool {
        self.replaces.as_deref() == Some(&other.hash())
    }

    /// The seed after an answer. A server that does not rotate sends no refresh token: this one
    /// stays (RFC 6749 §6).
    pub(super) fn succeeded_by(
        &self,
        refresh_token: Option<Zeroizing<String>>,
        issued: Option<Issued>,
    ) -> Self {
        Self {
            client_id: self.client_id.clone(),
            issuer: self.issuer.clone(),
            refresh_token: refresh_token
                .map_or_else(|| self.refresh_token.clone(), |token| token.to_string()),
            replaces: Some(self.hash()),
            issued,
        }
    }

    /// The access token that another process requested with this seed, if it is one for the same.
    pub(super) fn issued_for(&self, request: &IssuedFor) -> Option<&Issued> {
        self.issued
            .as_ref()
            .filter(|issued| issued.request == *request)
    }
}

/// What a process has left in place of the next seed.
pub(super) enum LeftBehind {
    /// An answer, written as a whole and not put in place.
    Successor(Box<Seed>),
    /// A request of which no answer was written.
    Unanswered,
    /// Something about another refresh token than the one that the seed has now.
    Outdated,
}

impl Issued {
    /// `None` for a token that another process could not send: bound to a DPoP key, which is this
    /// process's own.
    pub(super) fn new(token: &Token, requested_at: SystemTime, request: IssuedFor) -> Option<Self> {
        let access = token.access_token();
        let is_dpop = access.scheme() == Scheme::Dpop
            || access.confirmation().is_ok_and(|cnf| cnf.jkt.is_some());
        (!is_dpop).then(|| Self {
            access_token: access.secret().to_owned(),
            requested_at: seconds(requested_at),
            expires_at: token.expires_at().map(seconds),
            scope: token.scope().map(str::to_owned),
            request,
        })
    }

    pub(super) fn requested_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.requested_at)
    }

    /// The token, as this source gives it. `None`: the file was changed.
    pub(super) fn token(
        &self,
        source: TokenSourceId,
        certificate: Option<Thumbprint>,
    ) -> Option<Token> {
        let access = AccessToken::new(&*self.access_token).ok()?;
        let mut token = Token::new(access, source).with_scope(self.scope.clone());
        if let Some(certificate) = certificate {
            token = token.issued_to(certificate);
        }
        match self.expires_at {
            Some(at) => Some(token.expiring_at(UNIX_EPOCH.checked_add(Duration::from_secs(at))?)),
            None => Some(token),
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// What is reserved for an answer. Longer ones are written too, if there is room.
const RESERVED_BYTES: usize = 16 * 1024;

/// A longer file is no seed: a token has 64 KiB at most.
pub(super) const MAX_BYTES: usize = 256 * 1024;

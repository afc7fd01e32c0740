//! Takes access tokens and proofs out of text that a server wrote (EX-7).
//!
//! Servers repeat what they were sent, and error messages end in logs. Text that is only read by
//! people goes through [`printable`](SentTokens::printable), which also shortens it and removes
//! everything that looks like a secret. That would damage text that programs or models read: a
//! challenge holds URLs and scopes, a protocol's error holds file names and ids. From such text
//! [`redact`](SentTokens::redact) removes the tokens that the adapter has sent and their pieces,
//! and what could be a JWS or a piece of one:
//!
//! ```text
//! the server's text   no such file: /v2/notes-2026-01.txt (token: 4fa8-secret)
//! redact              no such file: /v2/notes-2026-01.txt (token: ...)
//! printable           no such file: … (token: …)
//! ```

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_http_client::bind::TokenSourceId;
use bowline_http_client::{AccessToken, Identity};
use bowline_token::shared::text::printable;
use bowline_token::{Error, Token, TokenSource};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum number of tokens remembered. A response that comes so late that this many newer tokens
/// were sent before it is not expected.
const MAX_TOKENS: usize = 8;
/// Stands for what was removed.
const REMOVED: &str = "...";
/// Fewer bytes of a token than this, in a row, reveal nothing of it.
const MIN_PIECE: usize = 8;
/// A run of characters of a JWS that is as long as this is one, or a piece of one: the names and
/// ids that programs read are shorter, or have one case only.
const MIN_JWS_PIECE: usize = 64;

/// The access tokens that an adapter has sent, newest last. Clones share them.
#[derive(Clone, Default)]
pub struct SentTokens {
    noted: Arc<Mutex<VecDeque<AccessToken>>>,
    /// A caller's `Authorization` field. Nothing of it is read before there is text to redact.
    field: Option<HeaderValue>,
}

impl SentTokens {
    /// The token of one request, which the caller has put into its `Authorization` field, if any.
    pub fn of_caller(fields: &HeaderMap) -> Self {
        Self {
            noted: Arc::default(),
            field: fields.get(AUTHORIZATION).cloned(),
        }
    }

    /// Remembers a token that is sent.
    pub fn note(&self, token: &AccessToken) {
        let mut tokens = self.lock();
        if tokens.iter().any(|known| known.hash() == token.hash()) {
            return;
        }
        if tokens.len() == MAX_TOKENS {
            tokens.pop_front();
        }
        tokens.push_back(token.clone());
    }

    /// The text without sent tokens and their pieces of eight bytes or more, and without what could
    /// be a JWS or a piece of one.
    pub fn redact(&self, text: &str) -> String {
        let mut redacted = text.to_owned();
        for token in self.lock().iter() {
            remove_token(&mut redacted, token.secret());
        }
        let field = self.field.as_ref().and_then(|field| field.to_str().ok());
        if let Some(field) = field {
            // Whatever the scheme.
            let token = field.split_once(' ').map_or(field, |(_, token)| token);
            remove_token(&mut redacted, token.trim());
        }
        without_jws(&redacted)
    }

    /// A value in JSON whose text programs read, redacted. `None` if it cannot be written as JSON
    /// and read back: what cannot be redacted is not shown.
    pub fn redact_value<T: Serialize + DeserializeOwned>(&self, value: &T) -> Option<T> {
        let text = serde_json::to_string(value).ok()?;
        // The replacement has no character that JSON escapes.
        serde_json::from_str(&self.redact(&text)).ok()
    }

    /// A short text for people: without anything that looks like a secret.
    pub fn printable(&self, text: &str) -> String {
        printable(&self.redact(text))
    }

    /// Redacts the header fields that errors quote.
    pub fn redact_fields(&self, fields: &mut HeaderMap) {
        let quoted = [WWW_AUTHENTICATE, RETRY_AFTER, CONTENT_TYPE, LOCATION];
        for (_, value) in fields.iter_mut().filter(|(name, _)| quoted.contains(name)) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let redacted = self.redact(&text);
            if redacted != text {
                *value = HeaderValue::from_bytes(redacted.as_bytes())
                    .unwrap_or(HeaderValue::from_static(REMOVED));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<AccessToken>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SentTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentTokens").finish_non_exhaustive()
    }
}

fn remove_token(text: &mut String, secret: &str) {
    if secret.is_empty() {
        return;
    }
    remove(text, secret);
    if secret.contains('/') {
        // Some JSON writers escape slashes.
        remove(text, &secret.replace('/', "\\/"));
    }
}

/// The usual text holds no token: then nothing is copied.
fn remove(text: &mut String, secret: &str) {
    if text.contains(secret) {
        *text = text.replace(secret, REMOVED);
    }
    let pieces: HashSet<&[u8]> = secret.as_bytes().windows(MIN_PIECE).collect();
    let windows = text.as_bytes().windows(MIN_PIECE).enumerate();
    let found = windows.filter(|(_, window)| pieces.contains(window));
    let mut removed: Vec<Range<usize>> = Vec::new();
    for (at, _) in found {
        match removed.last_mut() {
            Some(last) if last.end >= at => last.end = at + MIN_PIECE,
            _ => removed.push(at..at + MIN_PIECE),
        }
    }
    if removed.is_empty() {
        return;
    }
    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    // Tokens are ASCII, so that pieces begin and end between characters.
    for range in removed {
        kept.push_str(&text[end..range.start]);
        kept.push_str(REMOVED);
        end = range.end;
    }
    kept.push_str(&text[end..]);
    *text = kept;
}

/// The text without compact JWS and their pieces. Access tokens and proofs that are JWTs begin with
/// `eyJ`, which is `{"` in base64url.
fn without_jws(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let (before, run) = rest.split_at(start);
        let end = run.find(|c| !is_part(c)).unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        kept.push_str(before);
        let jws = run.find("eyJ").unwrap_or(run.len());
        if run[jws..].matches('.').count() >= 2 {
            kept.push_str(&run[..jws]);
            kept.push_str(REMOVED);
        } else if could_be_jws_piece(run) {
            kept.push_str(REMOVED);
        } else {
            kept.push_str(run);
        }
        rest = after;
    }
    kept.push_str(rest);
    kept
}

fn could_be_jws_piece(run: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
    run.len() >= MIN_JWS_PIECE
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
}

/// A token source that notes the tokens it gives.
pub struct NotingSource<S> {
    /// The source.
    pub source: S,
    /// Where its tokens are noted.
    pub sent: SentTokens,
}

impl<S: TokenSource> TokenSource for NotingSource<S> {
    fn id(&self) -> TokenSourceId {
        self.source.id()
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, Error>> {
        let token = self.source.token();
        token.inspect(|token| self.note(token)).boxed()
    }

    fn refused(&self, token: &Token) {
        self.source.refused(token);
    }

    fn token_for(&self, identity: Arc<Identity>) -> BoxFuture<'_, Result<Token, Error>> {
        let token = self.source.token_for(identity);
        token.inspect(|token| self.note(token)).boxed()
    }
}

impl<S> NotingSource<S> {
    fn note(&self, token: &Result<Token, Error>) {
        if let Ok(token) = token {
            self.sent.note(token.access_token());
        }
    }
}

#[cfg(test)]
mod tests;

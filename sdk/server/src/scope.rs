//! Required scopes (RFC 6749 section 3.3, RFC 6750 section 3.1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::request::Parts;
use serde_json::Value;

/// One or more scope tokens, all of which are needed. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Scope(Arc<str>);

impl Scope {
    /// Whether the `scope` claim of a token (RFC 9068 section 2.2.3, RFC 7662 section 2.2) includes
    /// all of this scope.
    pub(crate) fn is_granted(&self, claims: &Value) -> bool {
        let granted = claims
            .get("scope")
            .and_then(Value::as_str)
            .unwrap_or_default();
        self.0
            .split(' ')
            .all(|needed| granted.split(' ').any(|word| word == needed))
    }

    /// The text, as in the parameter `scope` of a challenge.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Scope tokens separated by single spaces, such as `mcp:read mcp:write`.
impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let is_scope_character = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        let is_scope_token = |word: &str| !word.is_empty() && word.bytes().all(is_scope_character);
        if text.split(' ').all(is_scope_token) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidScope)
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.0)
    }
}

/// The text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope consists of tokens of printable ASCII without quotation mark and backslash, separated by single spaces"
)]
pub struct InvalidScope;

/// Which requests need which scope (RS-10).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RequiredScope {
    /// No request needs a scope.
    #[default]
    None,
    /// All requests need this scope.
    Always(Scope),
    /// Each request needs the scope that the function returns, or none.
    When(Arc<ScopeForRequest>),
}

/// The scope that a request needs, decided by its head.
type ScopeForRequest = dyn Fn(&Parts) -> Option<Scope> + Send + Sync;

impl RequiredScope {
    /// The scope that the function returns for each request's head: by route, method, or a field
    /// that names the operation, such as MCP's `Mcp-Method` (which the handler must compare with
    /// the body).
    pub fn when(required: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static) -> Self {
        Self::When(Arc::new(required))
    }

    pub(crate) fn for_request(&self, request: &Parts) -> Option<Scope> {
        match self {
            Self::None => None,
            Self::Always(scope) => Some(scope.clone()),
            Self::When(required) => required(request),
        }
    }
}

impl fmt::Debug for RequiredScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Always(scope) => write!(f, "Always({scope})"),
            Self::When(_) => f.write_str("When(..)"),
        }
    }
}

#[cfg(test)]
mod tests;

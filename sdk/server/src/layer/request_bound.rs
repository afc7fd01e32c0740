//! For which requests a request-bound proof is demanded (RS-12).

use std::fmt;
use std::sync::Arc;

use http::request::Parts;

use super::Routes;

/// Which requests need a request-bound proof, with `jti`, `htm` and `htu` (RS-12).
///
/// Where the answer is not `Never`, a request with a field that overrides its method
/// (`X-HTTP-Method-Override` and the like) is refused; with [`Routes`](Self::Routes) only on the
/// paths that they name.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RequireRequestBound {
    /// None. Request claims that are present are checked anyway (RS-9).
    #[default]
    Never,
    /// All.
    Always,
    /// Those of these methods and paths.
    Routes(Routes),
    /// Those for which the function returns true. A path can be written in many ways:
    /// [`Routes`](Self::Routes) reads it in all of them, a function has to do it itself.
    When(Arc<dyn Fn(&Parts) -> bool + Send + Sync>),
}

impl RequireRequestBound {
    /// Those requests for which `required` returns true. It sees the head of the request: the
    /// route, the method, or a field that names the operation, such as MCP's `Mcp-Method` (which
    /// the handler must compare with the body).
    pub fn when(required: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self::When(Arc::new(required))
    }

    pub(super) fn applies_to(&self, request: &Parts) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Routes(routes) => routes.contain(request),
            Self::When(required) => required(request),
        }
    }

    /// Whether the request must not name another method in a field: it would then be another
    /// request for a service that honours that field. What a function would say about that one is not
    /// known.
    pub(super) fn forbids_method_override(&self, request: &Parts) -> bool {
        match self {
            Self::Never => false,
            Self::Always | Self::When(_) => true,
            Self::Routes(routes) => routes.name_path_of(request),
        }
    }
}

impl fmt::Debug for RequireRequestBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("Never"),
            Self::Always => f.write_str("Always"),
            Self::Routes(routes) => routes.fmt(f),
            Self::When(_) => f.write_str("When(..)"),
        }
    }
}

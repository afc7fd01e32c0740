//! Requests by method and path, however their path is written (RS-12).

use std::fmt;
use std::str::FromStr;

use http::Method;
use http::request::Parts;

use super::paths;
use super::transport;
use crate::reserved_fields;

/// Chosen requests, by patterns of method and path, and exceptions from them.
///
/// | pattern | requests |
/// |---|---|
/// | `/admin/keys` | this path, with any method |
/// | `DELETE /admin/keys` | this path with this method; `GET` covers `HEAD` |
/// | `/admin/*` | `/admin` and everything below it |
/// | `*`, `POST *` | every path |
///
/// A server behind this one may read a path differently. So a pattern matches if *any* reading
/// of the path does, and an exception counts only if *every* reading matches one: as sent; with
/// escapes decoded once and twice; and each of these with dot segments, empty segments and `;`
/// parameters removed.
///
/// A field that overrides the method, such as `X-HTTP-Method-Override`, is refused on every path
/// that a pattern names, whatever the method and the exceptions.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    chosen: Vec<Route>,
    excepted: Vec<Route>,
}

impl Routes {
    /// Requests that match one of these patterns.
    ///
    /// # Errors
    /// A pattern is not one.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidRoute> {
        Ok(Self {
            chosen: parsed(patterns)?,
            excepted: Vec::new(),
        })
    }

    /// Except those that match one of these patterns.
    ///
    /// # Errors
    /// A pattern is not one.
    pub fn except<'a>(
        mut self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidRoute> {
        self.excepted = parsed(patterns)?;
        Ok(self)
    }

    /// Whether the request is one of these by any reading of its path.
    pub fn contain(&self, request: &Parts) -> bool {
        let readings = paths::readings(transport::path(request));
        let method = &request.method;
        let named = |routes: &[Route], path: &[u8]| {
            let mut routes = routes.iter();
            routes.any(|route| route.has_method(method) && route.has_path(path))
        };
        readings.iter().any(|path| named(&self.chosen, path))
            && !readings.iter().all(|path| named(&self.excepted, path))
    }

    /// Whether the request is one of these however it is read (RS-13), by a pattern that matches its
    /// path as sent: where [`contain`](Self::contain) would rather include a request, this would
    /// rather leave it out.
    pub fn surely_contain(&self, request: &Parts) -> bool {
        let path = transport::path(request);
        let method = &request.method;
        let named = |routes: &[Route], path: &[u8]| {
            let mut routes = routes.iter();
            routes.any(|route| route.has_method(method) && route.has_path(path))
        };
        paths::is_plain(path)
            && named(&self.chosen, path.as_bytes())
            && !paths::readings(path)
                .iter()
                .any(|path| named(&self.excepted, path))
            // It would be another request for a service that honours that field.
            && !(self.depend_on_method() && reserved_fields::override_method(&request.headers))
    }

    fn depend_on_method(&self) -> bool {
        let mut routes = self.chosen.iter().chain(&self.excepted);
        routes.any(|route| route.method.is_some())
    }

    /// Whether a pattern names the path, with whatever method.
    pub(super) fn name_path_of(&self, request: &Parts) -> bool {
        let readings = paths::readings(transport::path(request));
        let named = |path: &[u8]| self.chosen.iter().any(|route| route.has_path(path));
        readings.iter().any(|path| named(path))
    }
}

fn parsed<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Vec<Route>, InvalidRoute> {
    patterns.into_iter().map(str::parse).collect()
}

#[derive(Clone)]
struct Route {
    /// `None` is any.
    method: Option<Method>,
    /// Without the slash at the end of a prefix.
    path: String,
    is_prefix: bool,
    /// `*`: also the target of `OPTIONS *`, which is no path.
    is_all: bool,
}

impl Route {
    fn has_method(&self, method: &Method) -> bool {
        // Some servers read a method in any case.
        let is = |own: &Method| own.as_str().eq_ignore_ascii_case(method.as_str());
        self.method
            .as_ref()
            .is_none_or(|own| is(own) || *own == Method::GET && is(&Method::HEAD))
    }

    fn has_path(&self, path: &[u8]) -> bool {
        if self.is_all {
            return true;
        }
        match path.strip_prefix(self.path.as_bytes()) {
            Some([]) => true,
            Some([b'/', ..]) => self.is_prefix,
            _ => false,
        }
    }
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(pattern: &str) -> Result<Self, InvalidRoute> {
        let (method, path) = match pattern.split_once(' ') {
            None => (None, pattern),
            Some((method, path)) => (Some(method.parse().map_err(|_| InvalidRoute)?), path),
        };
        if path == "*" {
            return Ok(Self {
                method,
                path: String::new(),
                is_prefix: true,
                is_all: true,
            });
        }
        let (path, is_prefix) = match path.strip_suffix("/*") {
            None => (path, false),
            Some(path) => (path, true),
        };
        let is_path = path.is_empty() && is_prefix || paths::is_plain(path);
        if !is_path || path.contains('*') {
            return Err(InvalidRoute);
        }
        Ok(Self {
            method,
            path: path.to_owned(),
            is_prefix,
            is_all: false,
        })
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        let end = match (self.is_all, self.is_prefix) {
            (true, _) => "*",
            (false, true) => "/*",
            (false, false) => "",
        };
        write!(f, "{}{end}", self.path)
    }
}

/// The text is not a pattern of method and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is a path such as /admin/keys or /admin/*, or * for all, perhaps with a method and one space \
     before it; the path is in normal form, without dot segments, empty segments and parameters"
)]
pub struct InvalidRoute;

#[cfg(test)]
mod tests;

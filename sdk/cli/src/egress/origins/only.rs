//! Which requests an origin gets, where not all (GW-7): methods, and prefixes of paths.

use http::request::Parts;
use http::{Method, StatusCode};

use crate::egress::names::HostPort;
use crate::egress::refused::Refused;

/// Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Only {
    methods: Vec<Method>,
    paths: Vec<String>,
}

/// Fields by which some servers take a request for one of another method.
const OVERRIDES: [&str; 3] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

impl Only {
    /// # Errors
    /// A method or a path that cannot be one.
    pub(super) fn new(methods: &[&str], paths: &[&str]) -> Result<Self, String> {
        let is_method = |text: &str| text.bytes().all(|byte| byte.is_ascii_uppercase());
        let methods = methods.iter().map(|text| {
            let method = text.parse().ok().filter(|_| is_method(text));
            method.ok_or_else(|| format!("`methods`: {text} is no method, such as POST"))
        });
        let paths = paths
            .iter()
            .map(|path| match path.starts_with('/') && is_plain(path) {
                true => Ok(path.trim_end_matches('/').to_owned()),
                false => Err(format!(
                    "`paths`: {path} is no plain prefix: it begins with /, without escapes and dot \
                 segments"
                )),
            });
        Ok(Self {
            methods: methods.collect::<Result<_, _>>()?,
            paths: paths.collect::<Result<_, _>>()?,
        })
    }

    /// # Errors
    /// 403.
    pub(super) fn check(&self, name: &HostPort, request: &Parts) -> Result<(), Refused> {
        let refused = |what: &str| {
            let text = format!("https://{name}: this egress passes no such request on: {what}");
            Err(Refused::new(StatusCode::FORBIDDEN, "not_named", text))
        };
        if !self.methods.is_empty() {
            // What may be read by GET may be asked for by HEAD.
            let is_named = self.methods.contains(&request.method)
                || request.method == Method::HEAD && self.methods.contains(&Method::GET);
            if !is_named {
                return refused("its method is not among `methods`");
            }
            let overrides = |name: &http::HeaderName| {
                OVERRIDES.contains(&name.as_str().replace('_', "-").as_str())
            };
            if request.headers.keys().any(overrides) {
                return refused("a field of it names another method");
            }
        }
        if !self.paths.is_empty() {
            let path = request.uri.path();
            let is_below = |prefix: &String| {
                let rest = path.strip_prefix(prefix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if !is_plain(path) || !self.paths.iter().any(is_below) {
                return refused("its path is not below one of `paths`");
            }
        }
        Ok(())
    }
}

/// Whether every server reads it as the same path: no dot segment, no empty one but the last, no
/// backslash, and no escape that hides one of these or a separator.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let hides = ["%2e", "%2f", "%5c", "%25", "\\", ";"];
    let mut segments = path.split('/').skip(1).peekable();
    let mut are_plain = true;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        are_plain &= !matches!(segment, "." | "..") && (is_last || !segment.is_empty());
    }
    are_plain && !hides.iter().any(|hidden| lower.contains(hidden))
}

#[cfg(test)]
mod tests;

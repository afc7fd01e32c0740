//! The URLs of HTTP+JSON calls: paths and queries below an interface's URL (A2A §11.3 and §11.5,
//! and the `google.api.http` rules of `a2a.proto`).

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::{Error, ErrorKind};
use crate::text::printable;

/// Everything is encoded in path segments and query values except unreserved characters (RFC 3986
/// §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A target under construction.
pub(super) struct Target {
    path: String,
    query: Vec<String>,
}

impl Target {
    /// Starts below an interface's URL, and keeps its query. A tenant becomes the first segment:
    /// `a2a.proto` has that rule for each method, and the official Python server reads it nowhere
    /// else.
    ///
    /// # Errors
    /// `InvalidCall`, as [`segment`](Self::segment).
    pub(super) fn below(interface: &Uri, tenant: Option<&str>) -> Result<Self, Error> {
        let this = Self {
            path: interface.path().trim_end_matches('/').to_owned(),
            query: interface.query().map(str::to_owned).into_iter().collect(),
        };
        match tenant {
            None | Some("") => Ok(this),
            Some(tenant) => this.fixed("/").segment("tenant", tenant),
        }
    }

    /// Appends this text unchanged.
    pub(super) fn fixed(mut self, text: &str) -> Self {
        self.path.push_str(text);
        self
    }

    /// Appends a name, encoded so that it stays one segment.
    ///
    /// # Errors
    /// `InvalidCall` for one that no path can have: empty, `.` and `..` identify other resources
    /// (RFC 3986 §5.2.4).
    pub(super) fn segment(mut self, what: &str, name: &str) -> Result<Self, Error> {
        if matches!(name, "" | "." | "..") {
            let message = format!(
                "the {what} {:?} cannot be part of a URL; JSON-RPC and gRPC can carry it",
                printable(name)
            );
            return Err(Error::new(ErrorKind::InvalidCall, message));
        }
        self.path.extend(utf8_percent_encode(name, ENCODED));
        Ok(self)
    }

    /// Adds a query parameter if there is a value.
    pub(super) fn parameter(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let value = value.to_string();
            self.query
                .push(format!("{name}={}", utf8_percent_encode(&value, ENCODED)));
        }
        self
    }

    /// The URL.
    ///
    /// # Errors
    /// `InvalidCall` if it is too long for one.
    pub(super) fn uri(self, interface: &Uri) -> Result<Uri, Error> {
        let mut target = self.path;
        if !self.query.is_empty() {
            target = format!("{target}?{}", self.query.join("&"));
        }
        let mut parts = interface.clone().into_parts();
        let invalid = |e: String| {
            Error::new(
                ErrorKind::InvalidCall,
                format!("the call's URL is invalid: {e}"),
            )
        };
        parts.path_and_query = Some(target.parse().map_err(|e| invalid(format!("{e}")))?);
        Uri::from_parts(parts).map_err(|e| invalid(e.to_string()))
    }
}

#[cfg(test)]
mod tests;

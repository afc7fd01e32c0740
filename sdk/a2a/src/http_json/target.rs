//! Where HTTP+JSON calls go: paths and queries below an interface's URL (A2A §11.3 and §11.5, and
//! the `google.api.http` rules of `a2a.proto`).

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::failure::{ErrorKind, Failure, shown};

/// What stands for itself in a path's segment and in a query's value, wherever it stands (RFC 3986
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
    /// Below an interface's URL, whose own query stays. A tenant is a segment in front of what
    /// follows: `a2a.proto` has that rule for each method, and the official Python server reads it
    /// nowhere else.
    ///
    /// # Errors
    /// `InvalidCall`, as [`segment`](Self::segment).
    pub(super) fn below(interface: &Uri, tenant: Option<&str>) -> Result<Self, Failure> {
        let this = Self {
            path: interface.path().trim_end_matches('/').to_owned(),
            query: interface.query().map(str::to_owned).into_iter().collect(),
        };
        match tenant {
            None | Some("") => Ok(this),
            Some(tenant) => this.fixed("/").segment("tenant", tenant),
        }
    }

    /// Goes on with this text, as it is.
    pub(super) fn fixed(mut self, text: &str) -> Self {
        self.path.push_str(text);
        self
    }

    /// Goes on with a name, which cannot end the segment, whatever it is.
    ///
    /// # Errors
    /// `InvalidCall` for one that no path can have: empty, `.` and `..` name other resources (RFC
    /// 3986 §5.2.4).
    pub(super) fn segment(mut self, what: &str, name: &str) -> Result<Self, Failure> {
        if matches!(name, "" | "." | "..") {
            let message = format!(
                "the {what} {:?} cannot be part of a URL; JSON-RPC and gRPC can carry it",
                shown(name)
            );
            return Err(Failure::new(ErrorKind::InvalidCall, message));
        }
        self.path.extend(utf8_percent_encode(name, ENCODED));
        Ok(self)
    }

    /// A query parameter, if there is a value.
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
    pub(super) fn uri(self, interface: &Uri) -> Result<Uri, Failure> {
        let mut target = self.path;
        if !self.query.is_empty() {
            target = format!("{target}?{}", self.query.join("&"));
        }
        let mut parts = interface.clone().into_parts();
        let invalid = |e: String| {
            Failure::new(
                ErrorKind::InvalidCall,
                format!("the call's URL cannot be made: {e}"),
            )
        };
        parts.path_and_query = Some(target.parse().map_err(|e| invalid(format!("{e}")))?);
        Uri::from_parts(parts).map_err(|e| invalid(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(
        interface: &'static str,
        tenant: Option<&str>,
        id: &str,
        parameter: Option<&str>,
    ) -> Result<String, ErrorKind> {
        let interface = Uri::from_static(interface);
        let target = Target::below(&interface, tenant)
            .and_then(|target| target.fixed("/tasks/").segment("task id", id));
        let uri = target.and_then(|target| {
            target
                .fixed(":cancel")
                .parameter("x", parameter)
                .uri(&interface)
        });
        uri.map(|uri| uri.to_string())
            .map_err(|failure| failure.kind())
    }

    #[test]
    fn calls_go_below_the_interface_s_url() {
        for (interface, expected) in [
            ("https://a.example", "https://a.example/tasks/t:cancel"),
            ("https://a.example/", "https://a.example/tasks/t:cancel"),
            (
                "https://a.example:8443/v1/rest//",
                "https://a.example:8443/v1/rest/tasks/t:cancel",
            ),
            (
                "https://a.example/v1?key=1",
                "https://a.example/v1/tasks/t:cancel?key=1",
            ),
        ] {
            assert_eq!(uri(interface, None, "t", None).as_deref(), Ok(expected));
        }
        let both = uri("https://a.example/v1?key=1", Some(""), "t", Some("é +&=1"));
        assert_eq!(
            both.as_deref(),
            Ok("https://a.example/v1/tasks/t:cancel?key=1&x=%C3%A9%20%2B%26%3D1")
        );
    }

    #[test]
    fn a_name_is_one_segment_whatever_it_is() {
        for (id, expected) in [
            ("a/b", "a%2Fb"),
            ("../admin", "..%2Fadmin"),
            ("a?b#c", "a%3Fb%23c"),
            ("a:cancel", "a%3Acancel"),
            ("50%", "50%25"),
            ("%2F", "%252F"),
            ("a b\r\n", "a%20b%0D%0A"),
            ("é", "%C3%A9"),
            ("...", "..."),
            ("a-._~Z9", "a-._~Z9"),
        ] {
            let expected = format!("https://a.example/%C3%A4%2F1/tasks/{expected}:cancel");
            assert_eq!(
                uri("https://a.example", Some("ä/1"), id, None),
                Ok(expected),
                "{id:?}"
            );
        }
        for id in ["", ".", ".."] {
            assert_eq!(
                uri("https://a.example", None, id, None),
                Err(ErrorKind::InvalidCall),
                "{id:?}"
            );
        }
        assert_eq!(
            uri("https://a.example", Some(".."), "t", None),
            Err(ErrorKind::InvalidCall)
        );
        let long = "x".repeat(100_000);
        assert_eq!(
            uri("https://a.example", None, &long, None),
            Err(ErrorKind::InvalidCall)
        );
    }
}

//! Standard error: the lines of `-v`, warnings, and the progress bar between them.

use std::io::Write;

use bowline::AccessToken;
use bowline::client::{Demand, Scheme};
use http::{HeaderMap, HeaderValue, response};
use indicatif::{ProgressBar, ProgressStyle};

use super::options::CallOptions;
use super::request::{Template, is_secret};

pub(super) struct Console {
    bar: ProgressBar,
}

impl Console {
    pub(super) fn new(options: &CallOptions) -> Self {
        let wanted = options.repeat > 1 && !options.silent && !options.verbose;
        let bar = match wanted {
            // It is drawn on standard error, and only if that is a terminal.
            true => ProgressBar::new(options.repeat).with_style(style()),
            false => ProgressBar::hidden(),
        };
        Self { bar }
    }

    pub(super) fn line(&self, text: impl AsRef<str>) {
        // A closed standard error cannot be told about.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        });
    }

    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// The head of the request, without its secrets.
    pub(super) fn request(&self, template: &Template) {
        self.line(format!("> {} {}", template.method, template.uri));
        if let Some(token) = &template.token {
            let scheme = match token.demand() {
                Ok(Demand::Dpop) => Scheme::Dpop,
                _ => token.scheme(),
            };
            let name = token_name(token);
            self.line(format!("> authorization: {} {name}", scheme.name()));
        }
        for (name, value) in &template.headers {
            let value = match is_secret(name) {
                true => "(not shown)".to_owned(),
                false => text(value),
            };
            self.line(format!("> {name}: {value}"));
        }
        if !template.body.is_empty() {
            self.line(format!("> ({} bytes)", template.body.len()));
        }
    }

    pub(super) fn response(&self, head: &response::Parts) {
        self.line(format!("< {:?} {}", head.version, head.status));
        for (name, value) in &head.headers {
            self.line(format!("< {name}: {}", text(value)));
        }
    }
}

/// How a token is named where it must not be shown: the first bytes of its SHA-256.
pub(super) fn token_name(token: &AccessToken) -> String {
    let hash = token.hash().as_bytes().iter().take(4);
    hash.fold("sha256:".to_owned(), |name, byte| {
        format!("{name}{byte:02x}")
    })
}

/// The head as `--include` writes it.
pub(super) fn head_text(head: &response::Parts) -> Vec<u8> {
    let mut text = format!("{:?} {}\r\n", head.version, head.status).into_bytes();
    append_fields(&mut text, &head.headers);
    text.extend_from_slice(b"\r\n");
    text
}

fn append_fields(text: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
}

fn text(value: &HeaderValue) -> String {
    printable(&String::from_utf8_lossy(value.as_bytes()))
}

/// What came from the network, without the characters that a terminal obeys.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn style() -> ProgressStyle {
    let template = "{bar:40} {pos}/{len} requests, {per_sec}, {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

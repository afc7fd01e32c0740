//! The client that the options describe.

use std::sync::Arc;

use bowline::client::{HttpVersions, Limits, Observer, Timeouts};
use bowline::{Client, Identity, Trust};

use super::options::CallOptions;
use super::places::places;
use super::request::Template;
use crate::failure::Failure;
use crate::identity;

/// More of a body than this is not kept for a second sending, unless --data gave more.
const REPLAY_LIMIT: usize = 64 * 1024;

pub(super) fn client(
    options: &CallOptions,
    template: &Template,
    observers: Vec<Arc<dyn Observer>>,
) -> Result<Client, Failure> {
    let origin = template.origin()?;
    let places = places(options, &origin)?;
    let mut builder = Client::builder()
        // The URL says so: it is the user who asks for plaintext.
        .allow_plaintext_on_loopback()
        .replay_limit(template.body.len().max(REPLAY_LIMIT))
        .http_versions(http_versions(options)?)
        .proof_scope(options.proof_scope.into())
        .timeouts(timeouts(options))
        .limits(limits(options));
    if !places.is_empty() {
        builder = builder.connect_to(origin, places);
    }
    if let Some(authorities) = &options.cacert {
        let trust = Trust::from_pem_file(authorities);
        builder = builder.trust(trust.map_err(|e| Failure::usage(format!("--cacert: {e}")))?);
    }
    if let Some(identity) = identity(options)? {
        builder = builder.identity(identity);
    }
    if let Some(path) = &options.dpop_key {
        builder = builder.dpop_key(identity::dpop_key("--dpop-key", path)?);
    }
    for observer in observers {
        builder = builder.observer(observer);
    }
    builder.build().map_err(Failure::usage)
}

fn http_versions(options: &CallOptions) -> Result<HttpVersions, Failure> {
    // clap sees no conflict where one of them comes from a variable or a file.
    match (options.http1, options.http2) {
        (true, true) => Err(Failure::usage(
            "http1.1 and http2 are both set: take one of them out",
        )),
        (true, false) => Ok(HttpVersions::Http1),
        (false, true) => Ok(HttpVersions::Http2),
        (false, false) => Ok(HttpVersions::Auto),
    }
}

fn timeouts(options: &CallOptions) -> Timeouts {
    let mut timeouts = Timeouts::default();
    if let Some(limit) = options.connect_timeout {
        timeouts.connect = limit;
        timeouts.proxy = limit;
        timeouts.tls_handshake = limit;
    }
    timeouts
}

/// As many connections as there are requests at a time.
fn limits(options: &CallOptions) -> Limits {
    let mut limits = Limits::default();
    limits.per_origin = limits.per_origin.max(options.concurrency.into());
    limits.in_all = limits.in_all.max(limits.per_origin);
    limits
}

fn identity(options: &CallOptions) -> Result<Option<Identity>, Failure> {
    let Some(certificate) = &options.cert else {
        return match &options.key {
            None => Ok(None),
            Some(_) => Err(Failure::usage(
                "--key without --cert: give its certificate too",
            )),
        };
    };
    let key = options.key.as_ref().unwrap_or(certificate);
    let option = match options.key {
        Some(_) => "--key",
        None => "--cert",
    };
    identity::read(certificate, key, option).map(Some)
}

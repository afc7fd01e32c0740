//! Replaces a client's certificate once there are tokens bound to the next one (CL-8).

use std::sync::Arc;

use bowline_http_client::{Client, Identity};
use futures_util::future::try_join_all;

use crate::{Error, ErrorKind, TokenSource};

/// Makes `next` the current certificate of `client`, once each of the `sources` has a token for it
/// (CL-8). Tokens that are bound to the previous certificate are still sent with that one.
///
/// # Errors
/// A source could not get a token. Then the current certificate stays, and the caller can try
/// again.
pub async fn replace_identity(
    client: &Client,
    sources: &[Arc<dyn TokenSource>],
    next: impl Into<Arc<Identity>>,
) -> Result<(), Error> {
    let next = next.into();
    try_join_all(sources.iter().map(|source| source.token_for(next.clone()))).await?;
    let replaced = client.replace_identity(next);
    replaced.map_err(|e| {
        Error::with_source(
            ErrorKind::Configuration,
            "the next certificate cannot be used",
            e,
        )
    })
}

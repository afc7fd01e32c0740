//! Resolves the data of the `endpoint` event, which says where messages are posted.

use bowline_transport::redirect::{self, ResolveError};
use http::Uri;

use crate::Error;
use crate::error::LegacyCause;

/// Maximum length of an endpoint in bytes.
const MAX_ENDPOINT: usize = 2048;

/// The absolute URI of `reference`, the data of an `endpoint` event of the stream at `base`.
///
/// # Errors
/// `InvalidEndpoint` if it is not a URI, is longer than 2,048 bytes, or has user information;
/// `EndpointOnOtherOrigin` if it leads to another origin: no token and no proof goes there (CL-6).
pub(super) fn resolve(base: &Uri, reference: &str) -> Result<Uri, Error> {
    let unusable = |why| Error::from(LegacyCause::UnusableEndpoint(why));
    if reference.len() > MAX_ENDPOINT {
        return Err(unusable("it is longer than 2048 bytes"));
    }
    redirect::resolve(base, reference).map_err(|e| match e {
        ResolveError::OtherOrigin { here, there } => {
            let (here, there) = (here.to_string(), there.to_string());
            LegacyCause::EndpointOnOtherOrigin { here, there }.into()
        }
        ResolveError::NotUrl => unusable("it is not a URL"),
        _ => unusable("it is not an http or https URI, or has user information"),
    })
}

#[cfg(test)]
mod tests;

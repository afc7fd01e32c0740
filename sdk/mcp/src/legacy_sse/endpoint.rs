//! Resolves the data of the `endpoint` event, which says where messages are posted.

use bowline_client::Origin;
use http::Uri;
use url::Url;

use super::LegacyCause;
use crate::Error;

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
    let url = Url::parse(&base.to_string()).and_then(|base| base.join(reference));
    let mut url = url.map_err(|_| unusable("it is not a URL"))?;
    url.set_fragment(None);
    let uri = Uri::try_from(url.as_str()).map_err(|_| unusable("it is not a URI"))?;
    let there = Origin::of(&uri)
        .map_err(|_| unusable("it is not an http or https URI, or has user information"))?;
    let here = Origin::of(base)?;
    if there != here {
        let (here, there) = (here.to_string(), there.to_string());
        return Err(LegacyCause::EndpointOnOtherOrigin { here, there }.into());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests;

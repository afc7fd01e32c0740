//! Where a redirect may lead an agent (GW-7): an allowed origin must not send it to another one whose
//! token it does not have.

use http::HeaderValue;
use url::Url;

use crate::egress::names::HostPort;

/// The origins that agents may take this `Location` of an answer of `from` for. Their libraries read
/// what is no proper URL in different ways; each reading counts.
pub(super) fn readings(from: &HostPort, location: &HeaderValue) -> Vec<HostPort> {
    let text = String::from_utf8_lossy(location.as_bytes());
    // Browsers' rules leave these out wherever they stand.
    let text: String = text
        .chars()
        .filter(|c| !matches!(c, '\t' | '\r' | '\n'))
        .collect();
    let text = text.trim_matches(|c: char| c <= ' ');
    let mut readings = Vec::new();
    let base = Url::parse(&format!("https://{from}/"));
    if let Ok(url) = base.and_then(|base| base.join(text))
        && let Some(host) = url.host_str()
    {
        // Through this egress `http` without a port means 443 too (GW-6).
        let port = url.port().unwrap_or(443);
        readings.extend(HostPort::parse(&format!("{host}:{port}")));
    }
    // As lenient libraries read it: what follows the scheme, or two slashes, up to the next one; a
    // backslash is a slash, or a part of it.
    for text in [text.to_owned(), text.replace('\\', "/")] {
        let Some(rest) = after_scheme(&text) else {
            continue;
        };
        let rest = rest.trim_start_matches(['/', '\\']);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        for host in [authority.rsplit('@').next(), authority.split('@').next()] {
            readings.extend(host.and_then(HostPort::parse));
        }
    }
    readings
}

/// What names a host; `None` for a path or a query.
fn after_scheme(text: &str) -> Option<&str> {
    for scheme in ["https:", "http:"] {
        if let Some(begin) = text.get(..scheme.len())
            && begin.eq_ignore_ascii_case(scheme)
        {
            return text.get(scheme.len()..);
        }
    }
    let is_slash = |c: char| matches!(c, '/' | '\\');
    let slashes = text.chars().take_while(|c| is_slash(*c)).count();
    (slashes >= 2).then_some(text)
}

#[cfg(test)]
mod tests;

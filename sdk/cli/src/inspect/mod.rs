//! `bowline inspect`: what a token, a proof, a challenge or a certificate says, and whether it
//! holds.

mod certificate;
mod challenge;
mod claims;
mod dpop;
mod input;
mod jws;
mod options;
mod report;
mod session;
mod token;

use std::io::Write;
use std::process::ExitCode;

use bowline::AccessToken;
use bowline::client::ExporterValue;
use http::{Method, Uri};

pub(crate) use options::InspectOptions;

use crate::failure::Failure;
use crate::{secret, text};
use input::Given;
use report::Report;

/// What is known besides what was given to be inspected.
struct Known {
    /// The client certificate, DER.
    certificate: Option<Vec<u8>>,
    token: Option<AccessToken>,
    exporter: Option<ExporterValue>,
    /// A JWK set.
    jwks: Option<Vec<u8>>,
    method: Option<Method>,
    url: Option<Uri>,
    /// In seconds since 1970.
    now: u64,
}

pub(crate) fn run(options: &InspectOptions) -> Result<ExitCode, Failure> {
    let bytes = secret::read_bytes("the input", &options.what)?;
    let known = Known::from_options(options)?;
    let given = input::recognise(&bytes)?;
    if given.is_secret() {
        secret::warn_if_on_command_line("what is inspected", &options.what);
    }
    let report = inspect(given, &known)?;
    let mut stdout = std::io::stdout().lock();
    let written = match options.json {
        true => writeln!(stdout, "{}", report.json()),
        false => write!(stdout, "{}", report.text()),
    };
    written.map_err(|e| Failure::failed(format!("standard output cannot be written: {e}")))?;
    Ok(match report.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn inspect(given: Given, known: &Known) -> Result<Report, Failure> {
    Ok(match given {
        Given::Token { token, jws } => token::inspect(&token, jws.as_ref(), known)?,
        Given::SessionProof { text, jws } => session::inspect(&text, &jws, known),
        Given::DpopProof { text, jws } => dpop::inspect(&text, &jws, known),
        Given::Challenges(challenges) => challenge::inspect(&challenges),
        Given::Certificates(certificates) => certificate::inspect(&certificates, known)?,
    })
}

impl Known {
    fn from_options(options: &InspectOptions) -> Result<Self, Failure> {
        let token = match &options.token {
            None => None,
            Some(given) => {
                let token = AccessToken::new(given.read_text("--token")?);
                Some(token.map_err(|e| Failure::usage(format!("--token: {e}")))?)
            }
        };
        let exporter = match &options.exporter {
            None => None,
            Some(given) => Some(input::exporter(&given.read_text("--exporter")?)?),
        };
        let jwks = options
            .jwks
            .as_ref()
            .map(|path| secret::read_file("--jwks", path));
        let method = options.request.as_ref().map(|method| {
            method
                .parse()
                .map_err(|_| Failure::usage(format!("--request `{method}` is no method")))
        });
        let url = options.url.as_ref().map(|url| {
            url.parse()
                .map_err(|error| Failure::usage(format!("--url cannot be read: {error}")))
        });
        Ok(Self {
            certificate: options
                .cert
                .as_deref()
                .map(input::certificate)
                .transpose()?,
            token,
            exporter,
            jwks: jwks.transpose()?,
            method: method.transpose()?,
            url: url.transpose()?,
            now: text::now(),
        })
    }
}

#[cfg(test)]
mod tests;

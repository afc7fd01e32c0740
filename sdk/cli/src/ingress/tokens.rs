//! How tokens are validated (RS-2): one of three ways.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use bowline::server::{
    AccessToken, ExpectedClaims, IntrospectionEndpoint, IntrospectionValidator, Jwks, JwksUrl,
    JwtValidator, Requester, TokenError, TokenValidator, UpstreamValidates, ValidToken,
};

use super::options::TokenOptions;
use crate::failure::Failure;
use crate::secret;

/// The validator that configuration names: one type, because a reload may replace one kind by
/// another.
pub(crate) enum Tokens {
    Jwt(JwtValidator),
    Introspection(IntrospectionValidator),
    BindingOnly,
}

impl TokenValidator for Tokens {
    async fn validate(&self, token: &AccessToken) -> Result<ValidToken, TokenError> {
        match self {
            Self::Jwt(tokens) => tokens.validate(token).await,
            Self::Introspection(tokens) => tokens.validate(token).await,
            Self::BindingOnly => UpstreamValidates.validate(token).await,
        }
    }

    async fn validate_for(
        &self,
        token: &AccessToken,
        requester: &Requester,
    ) -> Result<ValidToken, TokenError> {
        match self {
            Self::Jwt(tokens) => tokens.validate_for(token, requester).await,
            Self::Introspection(tokens) => tokens.validate_for(token, requester).await,
            Self::BindingOnly => UpstreamValidates.validate_for(token, requester).await,
        }
    }

    fn asks(&self, token: &AccessToken) -> bool {
        match self {
            Self::Jwt(tokens) => tokens.asks(token),
            Self::Introspection(tokens) => tokens.asks(token),
            Self::BindingOnly => false,
        }
    }

    fn is_binding_only(&self) -> bool {
        matches!(self, Self::BindingOnly)
    }
}

impl Tokens {
    /// # Errors
    /// Not exactly one way is configured, a part of it is missing, or belongs to another one.
    pub(crate) fn new(options: &TokenOptions) -> Result<Self, Failure> {
        let chosen = [
            ("--jwks", options.jwks.is_some()),
            ("--introspect", options.introspect.is_some()),
            ("--binding-only", options.binding_only),
        ];
        let mut chosen = chosen.iter().filter(|(_, is_given)| *is_given);
        let way = match (chosen.next(), chosen.next()) {
            (Some((way, _)), None) => *way,
            (None, _) => {
                return Err(Failure::usage(
                    "who validates tokens? Give --jwks (they are JWTs), --introspect (the \
                     authorization server is asked), or --binding-only (the service does)",
                ));
            }
            (Some((one, _)), Some((other, _))) => {
                return Err(Failure::usage(format!(
                    "{one} and {other}: tokens are validated in one way, give only one of them"
                )));
            }
        };
        refuse_others(options, way)?;
        match (&options.jwks, &options.introspect) {
            (Some(at), _) => jwt(options, at),
            (_, Some(url)) => introspection(options, url),
            _ => {
                tracing::warn!(
                    "--binding-only: the service must validate each token itself, and take it \
                     from Authorization alone (GW-4)"
                );
                Ok(Self::BindingOnly)
            }
        }
    }
}

/// What a validator was made from: the options, and a hash of each file that they name. A reload
/// that changes none of it keeps the validator, and so its keys and what it knows of tokens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenSource {
    options: TokenOptions,
    files: Vec<Option<[u8; 32]>>,
}

impl TokenSource {
    pub(crate) fn of(options: &TokenOptions) -> Self {
        let hash = |path: &Path| {
            let content = std::fs::read(path).ok()?;
            digest(&SHA256, &content).as_ref().try_into().ok()
        };
        Self {
            options: options.clone(),
            files: options.files().into_iter().map(hash).collect(),
        }
    }
}

/// An option that would silently do nothing is a mistake.
fn refuse_others(options: &TokenOptions, way: &str) -> Result<(), Failure> {
    let introspects = way == "--introspect";
    let validates = way != "--binding-only";
    for (option, is_given, fits) in [
        ("--issuer", options.issuer.is_some(), validates),
        ("--audience", !options.audience.is_empty(), validates),
        ("--any-jwt-type", options.any_jwt_type, way == "--jwks"),
        ("--authority-ca", options.authority_ca.is_some(), validates),
        (
            "--introspect-id",
            options.introspect_id.is_some(),
            introspects,
        ),
        (
            "--introspect-secret",
            options.introspect_secret.is_some(),
            introspects,
        ),
        (
            "--introspect-cert",
            options.introspect_cert.is_some(),
            introspects,
        ),
        (
            "--introspect-key",
            options.introspect_key.is_some(),
            introspects,
        ),
    ] {
        if is_given && !fits {
            let why = match way {
                "--binding-only" => ", which validates nothing",
                _ => "",
            };
            return Err(Failure::usage(format!(
                "{option} has no effect with {way}{why}: leave it away"
            )));
        }
    }
    Ok(())
}

fn expected(options: &TokenOptions) -> Result<ExpectedClaims, Failure> {
    let (first, others) = options.audience.split_first().ok_or_else(|| {
        Failure::usage(
            "--audience is missing: without it, tokens for other services would be accepted (RS-2)",
        )
    })?;
    let mut expected = ExpectedClaims::new(first);
    for other in others {
        expected = expected.audience(other);
    }
    Ok(match &options.issuer {
        Some(issuer) => expected.issuer(issuer),
        None => expected,
    })
}

fn jwt(options: &TokenOptions, at: &str) -> Result<Tokens, Failure> {
    let expected = expected(options)?;
    if options.issuer.is_none() {
        return Err(Failure::usage(
            "--issuer is missing: --jwks needs it (RFC 9068 section 4)",
        ));
    }
    let jwks = match at.contains("://") {
        true => {
            let wrong = |error| Failure::usage(format!("--jwks {at}: {error}"));
            let mut url = JwksUrl::new(at).map_err(wrong)?;
            if let Some(roots) = authority_roots(options)? {
                url = url.trust_only_pem(&roots).map_err(wrong)?;
            }
            Jwks::from(url)
        }
        false => {
            // It is read again as it ages; here it is only checked.
            let wrong =
                |error: &dyn std::fmt::Display| Failure::usage(format!("--jwks {at}: {error}"));
            let document = std::fs::read(at)
                .map_err(|error| wrong(&format_args!("the file cannot be read: {error}")))?;
            Jwks::document(document).map_err(|error| wrong(&error))?;
            if options.authority_ca.is_some() {
                return Err(Failure::usage(
                    "--authority-ca has no effect with a JWKS file: leave it away",
                ));
            }
            Jwks::file(at)
        }
    };
    let validator = JwtValidator::builder(expected, jwks).accept_any_jwt(options.any_jwt_type);
    Ok(Tokens::Jwt(validator.build()))
}

fn introspection(options: &TokenOptions, url: &str) -> Result<Tokens, Failure> {
    let wrong = |error| Failure::usage(format!("--introspect {url}: {error}"));
    let mut endpoint = IntrospectionEndpoint::new(url).map_err(wrong)?;
    if let Some(roots) = authority_roots(options)? {
        endpoint = endpoint.trust_only_pem(&roots).map_err(wrong)?;
    }
    let id = options.introspect_id.as_deref();
    let (secret, cert, key) = (
        &options.introspect_secret,
        &options.introspect_cert,
        &options.introspect_key,
    );
    let endpoint = match (id, secret, cert, key) {
        (Some(id), Some(secret), None, None) => {
            let secret = secret.read("--introspect-secret")?;
            let secret = String::from_utf8(secret)
                .map_err(|_| Failure::usage("--introspect-secret: the secret is not UTF-8"))?;
            endpoint.basic(id, &secret)
        }
        (Some(id), None, Some(cert), Some(key)) => {
            let mut pem = std::fs::read(cert).map_err(|error| {
                Failure::usage(format!(
                    "--introspect-cert: {} cannot be read: {error}",
                    cert.display()
                ))
            })?;
            pem.push(b'\n');
            pem.extend(secret::read_private_file("--introspect-key", key)?);
            endpoint.mutual_tls(id, &pem).map_err(wrong)?
        }
        _ => {
            return Err(Failure::usage(
                "who asks? --introspect needs --introspect-id, and either --introspect-secret or \
                 both --introspect-cert and --introspect-key",
            ));
        }
    };
    let validator = IntrospectionValidator::builder(expected(options)?, endpoint);
    Ok(Tokens::Introspection(validator.build()))
}

fn authority_roots(options: &TokenOptions) -> Result<Option<Vec<u8>>, Failure> {
    let Some(path) = &options.authority_ca else {
        return Ok(None);
    };
    std::fs::read(path).map(Some).map_err(|error| {
        Failure::usage(format!(
            "--authority-ca: {} cannot be read: {error}",
            path.display()
        ))
    })
}

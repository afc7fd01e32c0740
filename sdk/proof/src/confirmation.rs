//! `cnf`: what an access token says about who may present it, and how (RFC 7800).

use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    EXPORTER_LABEL,
    encoding::{Object, present},
    thumbprint::{JwkThumbprint, Thumbprint},
};

/// The members of a token's `cnf` claim that bowline uses (TK-1). Other members are ignored.
///
/// With [`Default`] there is no `cnf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// `x5t#S256`: the certificate that the client must have authenticated with (RFC 8705 §3.1).
    pub x5t_s256: Option<Thumbprint>,
    /// `tls_exp`: the exporter label; its presence demands a session-binding proof (TK-2).
    pub tls_exp: Option<String>,
    /// `jkt`: the thumbprint of a DPoP key (RFC 9449 §6.1).
    pub jkt: Option<JwkThumbprint>,
    /// `cnf` is there and has none of these members: it binds the token in a way that is unknown
    /// here. A client sends such a token as it sends a bearer token (RFC 7800 §3.1); a server
    /// refuses it (TK-5).
    pub unknown_method: bool,
}

/// Which proof a token demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Demand {
    /// None. The token may still be bound to a certificate: see [`Confirmation::x5t_s256`].
    None,
    /// A session-binding proof (TK-2).
    Session,
    /// A DPoP proof (RFC 9449).
    Dpop,
}

impl Confirmation {
    /// Reads `cnf` out of all claims of a token, or out of an introspection response (RFC 7662).
    ///
    /// No `cnf` gives an empty confirmation.
    ///
    /// # Errors
    /// [`ConfirmationError::Malformed`]: the claims or `cnf` are not an object, or a member has the
    /// wrong type or form. A `null` is a wrong type.
    pub fn from_claims(claims: &Value) -> Result<Self, ConfirmationError> {
        Object::<Claims>::deserialize(claims)
            .map_err(|_| ConfirmationError::Malformed)?
            .0
            .confirmation()
    }

    /// Reads `cnf` out of the text of all claims of a token, or of an introspection response.
    ///
    /// From the text, so that a duplicated member is an error: one reader would use the first,
    /// another the last, and a [`Value`] has lost one of them.
    ///
    /// # Errors
    /// As [`from_claims`](Self::from_claims), and [`ConfirmationError::Malformed`] if the text is
    /// not JSON, or `cnf` or one of its members is there twice.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfirmationError> {
        Self::from_object(text).unwrap_or(Err(ConfirmationError::Malformed))
    }

    /// The same; `None` if the text is not a JSON object.
    pub(crate) fn from_object(text: &[u8]) -> Option<Result<Self, ConfirmationError>> {
        if !text.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        match serde_json::from_slice::<Object<Claims>>(text) {
            Ok(claims) => Some(claims.0.confirmation()),
            Err(error) if error.is_data() => Some(Err(ConfirmationError::Malformed)),
            Err(_) => None,
        }
    }

    /// Whether both have the same known members (TK-5).
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let Self {
            x5t_s256,
            tls_exp,
            jkt,
            unknown_method: _,
        } = self;
        *x5t_s256 == other.x5t_s256 && *tls_exp == other.tls_exp && *jkt == other.jkt
    }

    /// Which proof the token demands.
    ///
    /// # Errors
    /// The demand cannot be satisfied, so the token must be refused and must not be sent:
    /// [`Conflict`](ConfirmationError::Conflict) (TK-0),
    /// [`UnknownLabel`](ConfirmationError::UnknownLabel) (TK-2),
    /// [`NoCertificate`](ConfirmationError::NoCertificate) (TK-1).
    pub fn demand(&self) -> Result<Demand, ConfirmationError> {
        match (&self.tls_exp, &self.jkt) {
            (Some(_), Some(_)) => Err(ConfirmationError::Conflict),
            (Some(label), None) if label != EXPORTER_LABEL => Err(ConfirmationError::UnknownLabel),
            (Some(_), None) if self.x5t_s256.is_none() => Err(ConfirmationError::NoCertificate),
            (Some(_), None) => Ok(Demand::Session),
            (None, Some(_)) => Ok(Demand::Dpop),
            (None, None) => Ok(Demand::None),
        }
    }
}

/// A `cnf` that cannot be read or cannot be satisfied. It carries nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmationError {
    /// `cnf` is not an object, is duplicated, or has a member of the wrong type or form.
    #[error("the token's cnf is malformed; the authorization server must issue another token")]
    Malformed,
    /// Both `jkt` and `tls_exp`: no specification says how to satisfy both (TK-0).
    #[error(
        "the token's cnf has both jkt and tls_exp, which nothing specifies; ask for one of them"
    )]
    Conflict,
    /// `tls_exp` names another exporter label than [`EXPORTER_LABEL`] (TK-2).
    #[error("the token's cnf.tls_exp names an exporter label other than {EXPORTER_LABEL}")]
    UnknownLabel,
    /// `tls_exp` in a token that is meant for the scheme `DPoP` (TK-0).
    #[error("the token's cnf has tls_exp, so it goes with the scheme Bearer and not with DPoP")]
    OtherScheme,
    /// `tls_exp` without `x5t#S256` (TK-1).
    #[error("the token's cnf has tls_exp but no x5t#S256; both are required")]
    NoCertificate,
    /// The `cnf` of a JWT and that of the introspection response about it differ (TK-5).
    #[error("the cnf of the token and that of the introspection response about it differ")]
    Disagreement,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "present")]
    cnf: Option<Object<Members>>,
}

#[derive(Deserialize)]
struct Members {
    #[serde(default, rename = "x5t#S256", deserialize_with = "present")]
    x5t_s256: Option<String>,
    #[serde(default, deserialize_with = "present")]
    tls_exp: Option<String>,
    #[serde(default, deserialize_with = "present")]
    jkt: Option<String>,
}

impl Claims {
    fn confirmation(self) -> Result<Confirmation, ConfirmationError> {
        let Some(Object(members)) = self.cnf else {
            return Ok(Confirmation::default());
        };
        let mut found = Confirmation {
            x5t_s256: thumbprint(members.x5t_s256)?,
            tls_exp: members.tls_exp,
            jkt: thumbprint(members.jkt)?,
            unknown_method: false,
        };
        found.unknown_method = found == Confirmation::default();
        Ok(found)
    }
}

fn thumbprint<T: FromStr>(member: Option<String>) -> Result<Option<T>, ConfirmationError> {
    let parsed = member.map(|text| text.parse()).transpose();
    parsed.map_err(|_| ConfirmationError::Malformed)
}

//! Where the access token of a request to an origin comes from (GW-7).

use crate::table::Fields;

/// `token = { source = "…" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TokenSource {
    /// The request brings one, or none.
    #[default]
    Caller,
}

impl TokenSource {
    /// The keys that the table may have.
    pub(super) const KEYS: [&str; 1] = ["source"];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
        }
    }

    /// # Errors
    /// No source of that name.
    pub(super) fn read(fields: Fields<'_>) -> Result<Self, String> {
        match fields.text("source")? {
            Some("caller") => Ok(Self::Caller),
            Some(_) => Err("`source` is \"caller\": the request brings the token".to_owned()),
            None => Err("`source` is missing: \"caller\"".to_owned()),
        }
    }
}

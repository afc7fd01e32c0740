//! The table that an enum of checks is made from: one row of text for each check.

use std::fmt;

/// The checks of one kind of proof, with a [`CheckRow`] for each.
pub trait CheckTable: Copy + fmt::Debug + 'static {
    /// Every check.
    const ALL: &'static [Self];

    /// What a refusal by this check tells.
    fn row(self) -> CheckRow;
}

/// What a refusal by one check tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckRow {
    /// The requirement that the check enforces, for example `RS-6`.
    pub id: &'static str,
    /// A short name in snake case, for metric labels.
    pub name: &'static str,
    /// The `error` of the challenge; `None` for a challenge without parameters.
    pub error: Option<&'static str>,
    /// The `error_description` of the challenge: fixed text that names the check and never a value.
    /// It keeps to RFC 6750 §3's characters.
    pub description: &'static str,
}

/// Defines an enum of checks from its table, so that a check and its row cannot drift apart:
///
/// ```text
/// /// What is checked (the requirement).
/// Variant => ("id", "name", error, "description"),
/// ```
macro_rules! checks {
    (
        $(#[$attribute:meta])*
        $Check:ident
        $($(#[$doc:meta])* $variant:ident => $row:tt,)*
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $Check {
            $($(#[$doc])* $variant,)*
        }

        impl $Check {
            /// The requirement that the check enforces: see [`CheckRow::id`](crate::CheckRow::id).
            pub fn id(self) -> &'static str {
                $crate::check_table::CheckTable::row(self).id
            }

            /// A short name in snake case, for metric labels. No two checks have the same, whatever
            /// proof they are of.
            pub fn name(self) -> &'static str {
                $crate::check_table::CheckTable::row(self).name
            }

            /// The `error` of the challenge; `None` for a challenge without parameters.
            pub fn error(self) -> Option<&'static str> {
                $crate::check_table::CheckTable::row(self).error
            }

            /// The `error_description` of the challenge: fixed text that names the check and never
            /// a value.
            pub fn description(self) -> &'static str {
                $crate::check_table::CheckTable::row(self).description
            }
        }

        impl $crate::check_table::CheckTable for $Check {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn row(self) -> $crate::check_table::CheckRow {
                let (id, name, error, description) = match self {
                    $(Self::$variant => $row,)*
                };
                $crate::check_table::CheckRow { id, name, error, description }
            }
        }
    };
}

pub(crate) use checks;

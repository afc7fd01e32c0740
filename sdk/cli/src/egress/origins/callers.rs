//! `callers` in an `[[origin]]` table: the only users whose requests go there, of those that may use
//! the egress.
//!
//! It holds for every token source. With `caller` no token is kept from anybody, but the client
//! certificate is, and the proofs.

use http::StatusCode;

use crate::egress::callers::{Callers, Peer, User};
use crate::egress::names::HostPort;
use crate::egress::refused::Refused;
use crate::table::Fields;

/// At least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnlyCallers(Vec<User>);

impl OnlyCallers {
    /// `None`: all that may use the egress.
    ///
    /// # Errors
    /// Something that names no user, or nobody at all.
    pub(super) fn read(fields: Fields<'_>) -> Result<Option<Self>, String> {
        let Some(texts) = fields.texts("callers")? else {
            return Ok(None);
        };
        if texts.is_empty() {
            return Err(
                "`callers` is empty, so nobody could use this origin: leave it out if all may"
                    .to_owned(),
            );
        }
        let parse = |text: &str| {
            text.parse()
                .map_err(|error| format!("`callers`, {text:?}: {error}"))
        };
        let users: Result<_, String> = texts.into_iter().map(parse).collect();
        users.map(|users| Some(Self(users)))
    }

    /// # Errors
    /// One of them may not use the egress at all, so this would say what does not hold. Where no user
    /// is known, requests are refused.
    pub(super) fn check_admitted(&self, all: &Callers) -> Result<(), String> {
        if !all.are_known() {
            return Ok(());
        }
        match self.0.iter().find(|user| !all.admits(user.0)) {
            None => Ok(()),
            Some(user) => Err(format!(
                "`callers`: {user} may not use this proxy at all, only {all} may"
            )),
        }
    }

    /// # Errors
    /// 403 for anybody else, and where it is not known who it is.
    pub(super) fn check(&self, name: &HostPort, peer: Peer) -> Result<(), Refused> {
        let text = match peer {
            Peer::User(uid) if self.0.contains(&User(uid)) => return Ok(()),
            Peer::User(uid) => format!(
                "https://{name}: requests of {} do not go there (`callers`)",
                User(uid)
            ),
            Peer::Unknown => format!(
                "https://{name}: requests of certain users alone go there (`callers`), and the kernel \
                 does not say whose this one is"
            ),
        };
        Err(Refused::new(StatusCode::FORBIDDEN, "callers", text))
    }

    /// For `/stats`.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(User::to_string).collect()
    }
}

#[cfg(test)]
mod tests;

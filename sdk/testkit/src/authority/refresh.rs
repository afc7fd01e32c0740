//! Refresh tokens, and what becomes of one that was used (RFC 9700 §4.14.2).

use std::collections::{HashMap, HashSet};

use super::token::unique;

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RefreshTokens {
    /// It stays valid, and no response holds another.
    Kept,
    /// Each response holds another. One that is used a second time was stolen, by whom nobody knows:
    /// it and its successors are revoked.
    #[default]
    Rotated,
    /// Each response holds another. A used one is accepted again until its successor has been used,
    /// since the response may have been lost.
    RotatedWithGrace,
}

/// The refresh tokens that were issued, for as long as the server runs.
#[derive(Default)]
pub(super) struct RefreshRecords {
    tokens: HashMap<String, Record>,
    revoked_families: HashSet<String>,
}

#[derive(Clone)]
struct Record {
    client_id: String,
    subject: String,
    /// The first token, from which it comes.
    family: String,
    /// The token that its response was issued for.
    predecessor: Option<String>,
    /// How often it was used.
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unused,
    Used,
    /// Used, and a successor was used too.
    Settled,
}

/// What a refresh token gets.
pub(super) struct Granted {
    pub(super) subject: String,
    pub(super) successor: Option<String>,
}

/// Why a refresh token is not accepted.
pub(super) enum NotAccepted {
    Unknown,
    Revoked,
    UsedBefore,
}

impl RefreshRecords {
    pub(super) fn issue(&mut self, client_id: &str, subject: &str) -> String {
        let token = unique();
        self.insert(
            token.clone(),
            Record {
                client_id: client_id.to_owned(),
                subject: subject.to_owned(),
                family: token.clone(),
                predecessor: None,
                state: State::Unused,
            },
        );
        token
    }

    pub(super) fn take(
        &mut self,
        token: &str,
        client_id: &str,
        rule: RefreshTokens,
    ) -> Result<Granted, NotAccepted> {
        let record = self.tokens.get(token).cloned();
        let record = record
            .filter(|record| record.client_id == client_id)
            .ok_or(NotAccepted::Unknown)?;
        if self.revoked_families.contains(&record.family) {
            return Err(NotAccepted::Revoked);
        }
        let may_be_used = match (rule, record.state) {
            (RefreshTokens::Kept, _) | (_, State::Unused) => true,
            (RefreshTokens::RotatedWithGrace, State::Used) => true,
            (RefreshTokens::Rotated, _) | (_, State::Settled) => false,
        };
        if !may_be_used {
            self.revoked_families.insert(record.family);
            return Err(NotAccepted::UsedBefore);
        }
        self.set(token, State::Used);
        if let Some(predecessor) = &record.predecessor {
            self.set(predecessor, State::Settled);
        }
        let successor = (rule != RefreshTokens::Kept).then(unique);
        if let Some(successor) = &successor {
            let next = Record {
                predecessor: Some(token.to_owned()),
                state: State::Unused,
                ..record.clone()
            };
            self.insert(successor.clone(), next);
        }
        Ok(Granted {
            subject: record.subject,
            successor,
        })
    }

    /// Whether it would be accepted.
    pub(super) fn is_live(&self, token: &str, rule: RefreshTokens) -> bool {
        self.tokens.get(token).is_some_and(|record| {
            let is_revoked = self.revoked_families.contains(&record.family);
            !is_revoked && (rule == RefreshTokens::Kept || record.state == State::Unused)
        })
    }

    pub(super) fn revoke(&mut self, token: &str) {
        if let Some(record) = self.tokens.get(token) {
            self.revoked_families.insert(record.family.clone());
        }
    }

    fn insert(&mut self, token: String, record: Record) {
        crate::secrets::record("token", token.as_bytes());
        self.tokens.insert(token, record);
    }

    fn set(&mut self, token: &str, state: State) {
        if let Some(record) = self.tokens.get_mut(token) {
            record.state = state;
        }
    }
}

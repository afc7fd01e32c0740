//! What was found: members with their meaning, and checks with their outcome.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::text::printable;

/// Longer values are cut.
const MAX_VALUE: usize = 300;

/// How far a member's meaning is set apart from its value.
const WIDTH: usize = 44;

pub(super) struct Report {
    /// Which kind of thing it is, for machines: `session_binding_proof`.
    pub(super) kind: &'static str,
    /// And for people.
    pub(super) title: String,
    pub(super) members: Vec<Member>,
    pub(super) checks: Vec<Check>,
}

/// One member of what was given.
pub(super) struct Member {
    /// `header`, `claims`, `parameters`, `certificate`.
    pub(super) part: String,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) meaning: String,
}

/// One check of what was given.
pub(super) struct Check {
    /// The requirements of the wire profile that it enforces, or a section of an RFC.
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// Why.
    Failed(String),
    /// Why it cannot be made.
    Unknown(String),
}

impl Outcome {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown(why.into())
    }

    /// [`Ok`](Self::Ok) if it `holds`.
    pub(super) fn of(holds: bool, otherwise: impl Into<String>) -> Self {
        match holds {
            true => Self::Ok,
            false => Self::failed(otherwise),
        }
    }
}

impl Report {
    pub(super) fn new(kind: &'static str, title: impl Into<String>) -> Self {
        Self {
            kind,
            title: title.into(),
            members: Vec::new(),
            checks: Vec::new(),
        }
    }

    pub(super) fn member(
        &mut self,
        part: impl Into<String>,
        name: impl Into<String>,
        value: impl Into<String>,
        meaning: impl Into<String>,
    ) {
        self.members.push(Member {
            part: part.into(),
            name: printable(&name.into()),
            value: cut(&printable(&value.into())),
            meaning: meaning.into(),
        });
    }

    pub(super) fn check(&mut self, id: &'static str, what: &'static str, outcome: Outcome) {
        self.checks.push(Check { id, what, outcome });
    }

    pub(super) fn has_failed(&self) -> bool {
        let mut outcomes = self.checks.iter().map(|check| &check.outcome);
        outcomes.any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    pub(super) fn json(&self) -> Value {
        let members = self.members.iter().map(|member| {
            json!({
                "part": member.part,
                "name": member.name,
                "value": member.value,
                "meaning": member.meaning,
            })
        });
        let checks = self.checks.iter().map(|check| {
            let (outcome, why) = match &check.outcome {
                Outcome::Ok => ("ok", None),
                Outcome::Failed(why) => ("failed", Some(printable(why))),
                Outcome::Unknown(why) => ("unknown", Some(printable(why))),
            };
            json!({ "id": check.id, "what": check.what, "outcome": outcome, "why": why })
        });
        json!({
            "kind": self.kind,
            "members": members.collect::<Vec<_>>(),
            "checks": checks.collect::<Vec<_>>(),
            "failed": self.has_failed(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        let mut part = "";
        let names = self
            .members
            .iter()
            .map(|member| member.name.chars().count());
        let name_width = names.max().unwrap_or(0);
        for member in &self.members {
            if member.part != part {
                part = &member.part;
                let _ = write!(text, "\n{part}\n");
            }
            let line = format!("  {:name_width$}  {}", member.name, member.value);
            // Nothing fails to be written to a string.
            let _ = match member.meaning.is_empty() {
                true => writeln!(text, "{line}"),
                false => writeln!(text, "{line:WIDTH$}  {}", member.meaning),
            };
        }
        if !self.checks.is_empty() {
            text.push_str("\nchecks\n");
        }
        let ids = self.checks.iter().map(|check| check.id.chars().count());
        let id_width = ids.max().unwrap_or(0);
        for check in &self.checks {
            let (outcome, why) = match &check.outcome {
                Outcome::Ok => ("ok     ", String::new()),
                Outcome::Failed(why) => ("FAILED ", format!(": {}", printable(why))),
                Outcome::Unknown(why) => (
                    "unknown",
                    format!(": cannot be checked: {}", printable(why)),
                ),
            };
            let _ = writeln!(
                text,
                "  {outcome}  {:id_width$}  {}{why}",
                check.id, check.what
            );
        }
        text
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

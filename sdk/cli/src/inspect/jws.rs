//! The parts of a compact JWS, for display and for precise words about what cannot be read.
//!
//! No verdict comes from here: whether a proof or a token is acceptable is decided by the readers
//! that clients and servers use, those of bowline-proof and bowline-server.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A JSON object with its members in order, repeated ones too.
pub(super) struct Members(pub(super) Vec<(String, Value)>);

pub(super) struct Jws {
    pub(super) header: Members,
    pub(super) claims: Members,
}

impl Members {
    /// The first member of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    pub(super) fn repeated(&self) -> Option<&str> {
        let mut seen = std::collections::HashSet::new();
        let repeated = self.0.iter().find(|(name, _)| !seen.insert(name));
        repeated.map(|(name, _)| name.as_str())
    }
}

/// Whether the text looks like a JWS, whole or damaged: it begins as the base64url of a JSON object
/// does, `{"` for most.
pub(super) fn looks_like_jws(text: &str) -> bool {
    const RARE: [&str; 5] = ["e30", "eyA", "ewo", "ewk", "ew0"];
    text.starts_with("eyJ")
        || (text.contains('.') && RARE.iter().any(|start| text.starts_with(start)))
}

/// Reads it, or says what is wrong; never quotes it.
pub(super) fn read(text: &str) -> Result<Jws, String> {
    let parts: Vec<&str> = text.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        return Err(match parts.len() {
            5 => "it has five parts: an encrypted JWT (JWE), which only its recipient can read"
                .to_owned(),
            1 | 2 => format!("it has {} of a JWS's three parts: cut off?", parts.len()),
            parts => format!("it has {parts} parts, and a JWS has three"),
        });
    };
    let jws = Jws {
        header: object("header", header)?,
        claims: object("payload", payload)?,
    };
    decode("signature", signature)?;
    Ok(jws)
}

fn object(part: &str, encoded: &str) -> Result<Members, String> {
    let bytes = decode(part, encoded)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| format!("its {part} is not UTF-8, from byte {} on", e.valid_up_to()))?;
    serde_json::from_str(text).map_err(|error| {
        // serde_json quotes nothing of the text but in errors of types, and there is one type here.
        match error.classify() {
            serde_json::error::Category::Data => format!("its {part} is JSON, but no object"),
            _ => format!("its {part} is no JSON: {error}"),
        }
    })
}

fn decode(part: &str, encoded: &str) -> Result<Vec<u8>, String> {
    if encoded.is_empty() {
        return Err(format!("its {part} is empty"));
    }
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| {
        let belongs = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let why = match encoded.chars().enumerate().find(|(_, c)| !belongs(*c)) {
            Some((_, '=')) => " it is padded, and must not be".to_owned(),
            Some((_, '+' | '/')) => " it is base64 with + and /, and must be base64url".to_owned(),
            Some((at, _)) => format!(" character {} does not belong there", at + 1),
            None => " it is cut off, or its last bits are not zero".to_owned(),
        };
        format!("its {part} is not base64url:{why}")
    })
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

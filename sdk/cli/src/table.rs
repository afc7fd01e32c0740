//! A TOML table as the value of an option: `[[origin]]` in the file, `{ url = "…" }` on the command
//! line and in a variable.

use std::fmt;
use std::str::FromStr;

/// Names that differ more than this are not suggested.
const ALIKE: f64 = 0.7;

/// The table, not looked into yet. No message and no `Debug` shows a value of it.
#[derive(Clone)]
pub(crate) struct Table(toml::Table);

impl Table {
    /// Its values, if it has no key but these.
    ///
    /// # Errors
    /// Another key, with the nearest of these.
    pub(crate) fn fields(&self, known: &[&str]) -> Result<Fields<'_>, String> {
        Fields::new(&self.0, known)
    }
}

impl FromStr for Table {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let document: Option<toml::Table> = format!("table = {text}").parse().ok();
        let document = document.filter(|document| document.len() == 1);
        match document.and_then(|mut document| document.remove("table")) {
            Some(toml::Value::Table(table)) => Ok(Self(table)),
            _ => Err("write a table: { url = \"https://api.example.com\" }".to_owned()),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The values of a table.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(&'a toml::Table);

impl<'a> Fields<'a> {
    fn new(table: &'a toml::Table, known: &[&str]) -> Result<Self, String> {
        let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(Self(table));
        };
        Err(match nearest(key, known.iter().copied()) {
            Some(name) => format!("unknown key `{key}`; did you mean `{name}`?"),
            None => format!("unknown key `{key}`; the keys are {}", known.join(", ")),
        })
    }

    /// A text.
    ///
    /// # Errors
    /// Something else.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("`{key}` takes a text")),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Something else.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(toml::Value::Boolean(flag)) => Ok(Some(*flag)),
            Some(_) => Err(format!("`{key}` takes true or false")),
        }
    }

    /// A list of texts, or one text.
    ///
    /// # Errors
    /// Something else.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, String> {
        let items = match self.0.get(key) {
            None => return Ok(None),
            Some(toml::Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
        match texts {
            Some(texts) => Ok(Some(texts)),
            None => Err(format!("`{key}` takes a list of texts")),
        }
    }

    /// A table with no key but these.
    ///
    /// # Errors
    /// Another key, or something else.
    pub(crate) fn table(&self, key: &str, known: &[&str]) -> Result<Option<Fields<'a>>, String> {
        match self.0.get(key) {
            None => Ok(None),
            Some(toml::Value::Table(table)) => match Fields::new(table, known) {
                Ok(fields) => Ok(Some(fields)),
                Err(error) => Err(format!("`{key}`: {error}")),
            },
            Some(_) => Err(format!("`{key}` takes a table")),
        }
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::jaro_winkler(name, key), name))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;

//! What a part of the configuration was made of, to know whether it has to be made anew.

use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A digest of options and of the contents of files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inputs([u8; 32]);

impl Inputs {
    /// A file that cannot be read counts as empty: what reads it for its purpose says so.
    pub(crate) fn of(texts: &[&str], files: &[&Path]) -> Self {
        let mut context = Context::new(&SHA256);
        // Digests of digests: no text can look like two.
        let mut add = |bytes: &[u8]| context.update(digest(&SHA256, bytes).as_ref());
        texts.iter().for_each(|text| add(text.as_bytes()));
        for file in files {
            add(&std::fs::read(file).unwrap_or_default());
        }
        let mut inputs = [0; 32];
        inputs.copy_from_slice(context.finish().as_ref());
        Self(inputs)
    }
}

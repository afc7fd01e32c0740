//! What the ingress and the egress do with everything that they pass on, in both directions.

pub(crate) mod body;
pub(crate) mod fields;

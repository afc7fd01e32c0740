mod ahead;
mod in_use;
mod signature_bound;

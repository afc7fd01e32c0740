mod ahead;
mod signature_bound;

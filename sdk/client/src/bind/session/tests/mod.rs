mod signature_bound;

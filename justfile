# The vocabulary of this project. CI (.ci/run) calls `just ci` and says nothing that cannot be said here.

# Lists the recipes.
default:
    @just --list --unsorted

# The reconnect-churn lab: one table. Options go through, as in `just demo --quick --scenario sse`.
demo *options:
    cargo run --release -p churn -- {{ options }}

# Every test that needs only Rust and a C compiler.
test:
    cargo test --workspace

# Format, clippy and documentation; any warning is an error.
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# The named set: checks with parts that must be installed. One that is missing is a failure, never a skip.
parts: vectors programs

# The test vectors against a second implementation: Python with the package `cryptography`.
vectors:
    @python3 -c 'import cryptography' || { echo "vectors: run 'pip install cryptography' first" >&2; exit 1; }
    python3 conformance/vectors/check.py

# The ignored tests, which need installed programs (openssl); less the one that rewrites the vectors.
programs:
    @command -v openssl >/dev/null || { echo "programs: install openssl first" >&2; exit 1; }
    cargo test --workspace --tests -- --ignored --skip regenerate

# A short run of the lab, and whether its figures are what we claim.
demo-check:
    cargo run --release -p churn -- --quick --json target/churn.json
    python3 examples/churn/check.py target/churn.json

# What CI runs, in this order; says how long each step took.
ci:
    #!/usr/bin/env bash
    set -euo pipefail
    for step in lint test parts demo-check; do
        echo "ci: $step"
        started=$SECONDS
        "{{ just_executable() }}" "$step" || { echo "ci: $step FAILED after $((SECONDS - started)) s"; exit 1; }
        echo "ci: $step took $((SECONDS - started)) s"
    done

# The book in docs/, built into docs/book.
docs:
    @command -v mdbook >/dev/null || { echo "docs: mdbook is missing; run 'cargo install --locked mdbook'" >&2; exit 1; }
    mdbook build docs

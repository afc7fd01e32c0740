# The vocabulary of this project. CI (.ci/run) calls `just ci` and says nothing that cannot be said here.

parts_python := justfile_directory() / "target/parts-venv/bin/python3"

# Lists the recipes.
default:
    @just --list --unsorted

# The reconnect-churn lab: one table. Options go through, as in `just demo --quick --scenario sse`. In the same profile as the
# tests, so that what it builds is not built twice; `cargo run --release -p churn` for its latencies.
demo *options:
    cargo run -p churn -- {{ options }}

# Every test that needs only Rust and a C compiler.
test:
    cargo test --workspace

# Format, import cycles, requirements and their tests, clippy (also without default features), documentation, the Rust version that dependencies ask for,
# and the packages for crates.io (needs cargo 1.90, although users need only Rust 1.88); any warning is an error.
lint:
    cargo fmt --all --check
    python3 tools/cycles.py
    python3 tools/msrv.py
    python3 tools/wire_profile.py
    python3 tools/requirements.py
    cargo publish --locked --workspace --dry-run --no-verify --allow-dirty --quiet
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked -p bowline-mcp -p bowline-a2a --no-default-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# The named set: checks with parts that must be installed. One that is missing is a failure, never a skip.
parts: vectors ignored

# The test vectors against two more implementations of the proof: Python with `cryptography`, and Node with nothing else. The
# second command fails if a vector that needs no key of ours is not what its generator writes.
vectors: parts-python parts-node
    {{ parts_python }} conformance/vectors/check.py
    {{ parts_python }} conformance/vectors/generate.py --check
    "$(ls conformance/oidc-provider/node_modules/node-linux-*/bin/node 2>/dev/null || echo node)" conformance/vectors/check.mjs

# The tests that `just test` leaves out for want of parts: the exporter value against OpenSSL's (Python, `pyopenssl`), a
# stolen ticket used by another process (the `openssl` command), npm's `oidc-provider` as the authorization server (Node),
# MCP servers on the TypeScript (Node) and Python (`mcp`) SDKs, an A2A agent on the Python SDK (`a2a-sdk`), `haproxy` and `redis-server`; agents on
# those SDKs, `curl` and `git` below `bowline run`; the quick start, and the schemas of Kubernetes. Two more users of this machine are
# acted out, so it runs as root.
ignored: parts-python parts-node
    PATH="{{ parent_directory(parts_python) }}:$PATH" cargo test --workspace --tests -- --ignored --skip regenerate --skip nightly

# The quick start of the book (docs/src/quickstart.md), as it is written. Part of the named set.
quickstart:
    cargo build -p bowline-cli
    PATH="{{ justfile_directory() }}/target/debug:$PATH" python3 tools/quickstart.py docs/src/quickstart.md

# The Kubernetes manifests in contrib/ against Kubernetes' schemas and `bowline --check`. Part of the named set.
manifests: parts-python
    cargo build -p bowline-cli
    {{ parts_python }} tools/manifests.py target/debug/bowline

# The Python packages of the named set, in an environment of their own under target/.
[private]
parts-python:
    @"{{ parts_python }}" -c 'import cryptography, jsonschema, OpenSSL, mcp.server.mcpserver, a2a.server.routes, grpc, uvicorn, kubernetes_validate' 2>/dev/null \
        || { python3 -m venv --clear target/parts-venv \
        && "{{ parts_python }}" -m pip install --quiet --disable-pip-version-check 'cryptography>=43' 'jsonschema>=4.18' 'pyopenssl>=24' 'mcp>=2.3,<3' \
            'a2a-sdk[grpc,http-server]>=1.3,<2' 'uvicorn>=0.54,<1' 'kubernetes-validate>=1.37,<2'; }

# The npm packages of the named set, in the place where Node looks for them; a Node that is new enough is one of them.
[private]
parts-node: (npm "oidc-provider") (npm "mcp-peers") (npm "agents")

[private]
npm folder:
    @command -v npm >/dev/null || { echo "parts: npm is missing; any version will do" >&2; exit 1; }
    @cd conformance/{{ folder }} \
        && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund; }

# What takes too long for every change, or comes from outside. Summaries go to docs/evidence/, for a commit.
nightly: mcp-suite mcp-suite-server agents load idle-sockets beside-nginx leaks chaos seeds redis-restarts soak publishable

# Whether each package builds from what would be uploaded, and the facade with the oldest Rust that users may have.
publishable:
    cargo publish --locked --workspace --dry-run --allow-dirty
    rustup toolchain install --profile minimal 1.88
    CARGO_TARGET_DIR=target/msrv cargo +1.88 check --locked -p bowline --all-features

# The client scenarios of the MCP conformance suite, over rmcp's stock transport, the same through `bowline egress`, and over ours. As root.
mcp-suite: (npm "mcp-suite")
    cargo build -p bowline-conformance-mcp-client -p bowline-cli
    mkdir -p docs/evidence
    python3 conformance/mcp-suite/run.py target/debug/bowline-conformance-mcp-client target/debug/bowline docs/evidence/mcp-suite.md

# The suite's server scenarios against a server on the Python SDK, directly and through `bowline egress` and `bowline ingress`.
mcp-suite-server: parts-python (npm "mcp-suite")
    cargo build -p bowline-cli
    mkdir -p docs/evidence
    python3 conformance/mcp-suite/run_server.py target/debug/bowline "{{ parts_python }}" docs/evidence/mcp-suite-server.md

# All agents that know nothing of bowline, below `bowline run`: one table. Needs Go and Java (Debian: golang-go, openjdk-17-jdk-headless).
agents: parts-python (npm "agents")
    @for program in go java curl git; do command -v $program >/dev/null || { echo "agents: $program is missing" >&2; exit 1; }; done
    "{{ parts_python }}" -m pip install --quiet --disable-pip-version-check 'openai>=3.51,<4'
    PATH="{{ parent_directory(parts_python) }}:$PATH" BOWLINE_AGENTS_TABLE="$PWD/target/agents-table.md" \
        cargo test -p bowline-cli --test it agents::nightly -- --ignored --nocapture
    conformance/agents/evidence.sh target/agents-table.md > docs/evidence/agents.md

# Bounds of a server under 10,000 silent connections, 100,000 tokens and 1,000,000 `jti` (docs/src/server-benchmarks.md).
load:
    cargo bench -p bowline-server --bench load

# The ingress with 5,000 places under 10,000 idle sockets, before and after the handshake.
idle-sockets:
    BOWLINE_SOCKETS=10000 cargo test -p bowline-cli --test it idle_sockets -- --nocapture

# What the ingress costs beside nginx: a table for docs/evidence/. On an idle machine; `--quick` writes nothing.
beside-nginx *options:
    @command -v nginx >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends nginx-light; }
    cargo bench -p bowline-cli --bench beside_nginx -- --summary "{{ justfile_directory() }}/docs/evidence/ingress-beside-nginx.md" {{ options }}

# 100,000 requests over connections that are cut, replaced ahead and refused: no proof on a wrong connection, none lost.
chaos:
    TEST_REQUESTS=100000 cargo test -p bowline-http-client --test chaos -- --nocapture

# Ten agents and two egresses on one refresh token, for a minute: one refresh for each access token, none lost.
seeds:
    BOWLINE_REFRESHES=25 cargo test -p bowline-cli --test it ten_agents_and_two_egresses -- --nocapture

# 100,000 requests with DPoP at two ingresses, while the Redis that they share is restarted twice. Needs `redis-server`.
redis-restarts:
    mkdir -p docs/evidence
    TEST_REQUESTS=100000 BOWLINE_EVIDENCE="{{ justfile_directory() }}/target/redis-restarts.md" \
        cargo test -p bowline-cli --test it nodes::restarts -- --ignored --nocapture
    { printf '# Redis restarted twice under load\n\n`just redis-restarts` on %s, %s cores, %s, a debug build.\n\n' \
        "$(date -u +%F)" "$(nproc)" "$(redis-server --version | cut -d' ' -f1-3)"; cat target/redis-restarts.md; } > docs/evidence/redis-restarts.md

# 200,000 requests of 20 agents behind one egress, through HAProxy, to four ingress processes that are restarted one after the other, while
# certificates are replaced at both ends. Needs `haproxy`.
soak:
    mkdir -p docs/evidence
    TEST_REQUESTS=200000 BOWLINE_SOAK_SUMMARY="{{ justfile_directory() }}/target/soak.md" \
        cargo test -p bowline-cli --test it soak -- --ignored --nocapture
    { printf '# Ingresses restarted behind HAProxy\n\n`just soak` on %s, %s cores, a debug build.\n\n' "$(date -u +%F)" "$(nproc)"; \
        cat target/soak.md; } > docs/evidence/soak.md

# Every test with everything shown, at TRACE, searched for the keys, tokens, proofs and exporter values that the tests make.
# Options go to `cargo test`, as in `just leaks -p bowline-mcp`.
leaks *options:
    python3 tools/leaks.py --self-test
    python3 tools/leaks.py {{ options }}

# A short run of the lab, and whether its figures are what we claim.
demo-check:
    cargo run -p churn -- --quick --json target/churn.json
    python3 examples/churn/check.py target/churn.json

# The benches (docs/src/benchmarks.md, server-benchmarks.md): reported, never a gate. On an idle machine.
bench *options:
    cargo bench -p bowline-server --bench verify
    cargo bench -p bowline-server --features redis --bench replay
    for bench in throughput warm_path memory slow_key scale replace; do \
        cargo bench -p bowline-http-client --bench $bench -- {{ options }} || exit 1; \
    done
    python3 sdk/client/benches/report.py

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

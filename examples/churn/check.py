#!/usr/bin/env python3
"""Checks that the figures of the churn lab are what bowline claims.

    cargo run -p churn -- --quick --json target/churn.json
    python3 examples/churn/check.py target/churn.json

Needs the Python standard library only. Names each claim that failed, and exits with 1 if one did. Latencies are not
checked: they depend on the machine.
"""

import json
import sys
from pathlib import Path

MCP = ["warm-h2", "warm-h1", "idle", "serverless", "sse-h1", "sse-h2"]
A2A = ["a2a-warm-jsonrpc", "a2a-warm-rest", "a2a-warm-grpc", "a2a-long-task", "a2a-mesh"]
STOCK = {**{scenario: "rmcp-bearer" for scenario in MCP}, **{scenario: "a2a-bearer" for scenario in A2A}}
CONNECTION, REQUEST, ADAPTIVE, DPOP = OURS = [
    "bowline-connection",
    "bowline-request",
    "bowline-adaptive",
    "bowline-dpop",
]


def claims(run):
    """Yields each claim about one run, in words, and whether it holds."""
    scenario, client = run["scenario"], run["client"]
    requests, signatures, opened = run["requests"], run["signatures"], run["connections_opened"]

    yield "requests were made", requests > 0
    if scenario == "a2a-long-task" and client == STOCK[scenario]:
        yield "a client that does not subscribe again misses states", run["errors"] > 0
    else:
        yield "errors == 0", run["errors"] == 0
    yield "every signature has a cause", sum(run["causes"].values()) == signatures
    if client == STOCK[scenario]:
        yield "signatures == 0", signatures == 0
        yield "the stolen bearer token is accepted", run["replay_accepted"] is True
        return

    yield "the stolen token and proof are refused", run["replay_accepted"] is False
    if client == DPOP:
        yield "as a replay (DP-14)", run["other_certificate"] == run["same_certificate"] == {"refused": "DP-14"}
        yield from one_for_each_request(run)
        return

    yield "with another certificate by RS-3 (T4)", run["other_certificate"] == {"refused": "RS-3"}
    yield "with the same certificate by RS-6 (T1)", run["same_certificate"] == {"refused": "RS-6"}
    if client == REQUEST:
        yield from one_for_each_request(run)
        yield "request_bound == requests", run["request_bound"] == requests
        return
    if client == ADAPTIVE:
        yield "signatures <= 2 per connection", signatures <= 2 * opened
        yield "at most one request of each connection carries a request-bound proof", 1 <= run["request_bound"] <= opened
        if is_warm(scenario):
            yield "signatures == 2", signatures == 2
        if scenario == "serverless":
            yield "signatures == requests", signatures == requests
            yield "request_bound == requests", run["request_bound"] == requests
        return

    yield "request_bound == 0", run["request_bound"] == 0
    yield "signatures <= connections_opened", signatures <= opened
    if is_warm(scenario):
        yield "signatures == 1", signatures == 1
    if scenario == "serverless":
        yield "signatures == requests", signatures == requests
    if ends_under_way(scenario):
        yield "more than one connection was needed", signatures > 1
    if scenario == "sse-h2":
        yield "connections_opened == 1", opened == 1
        yield "signatures == 1", signatures == 1


def one_for_each_request(run):
    """A signature for each request, and for each that was sent again because its connection ended first (CL-3)."""
    requests, signatures, opened = run["requests"], run["signatures"], run["connections_opened"]
    if ends_under_way(run["scenario"]):
        yield "requests <= signatures <= requests + 2 per connection", requests <= signatures <= requests + 2 * opened
    else:
        yield "signatures == requests", signatures == requests


def ends_under_way(scenario):
    """Whether connections end while requests are under way."""
    return scenario in ("a2a-long-task", "a2a-mesh")


def is_warm(scenario):
    """Whether everything goes over one HTTP/2 connection."""
    return scenario == "warm-h2" or scenario.startswith("a2a-warm-")


def main(arguments):
    if len(arguments) != 1:
        print("usage: check.py FILE, written by churn --json FILE", file=sys.stderr)
        return 2
    runs = json.loads(Path(arguments[0]).read_text())["runs"]
    found = [(run["scenario"], run["client"]) for run in runs]
    wanted = [(scenario, client) for scenario in STOCK for client in [STOCK[scenario], *OURS]]
    wrong = [f"{' '.join(run)}: there must be one such run" for run in wanted if found.count(run) != 1]
    wrong += [f"{' '.join(run)}: this check does not know such a run" for run in found if run not in wanted]

    held = 0
    for run in runs:
        for claim, holds in claims(run):
            held += holds
            if not holds:
                wrong.append(f"{run['scenario']} {run['client']}: {claim}; the run was {json.dumps(run)}")
    for problem in wrong:
        print(f"FAILED {problem}")
    print(f"churn: {held} claims hold over {len(runs)} runs, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

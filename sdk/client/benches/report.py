#!/usr/bin/env python3
"""Tables for docs/src/benchmarks.md from what the benches wrote to target/bench.

    python3 sdk/client/benches/report.py                            prints them
    python3 sdk/client/benches/report.py docs/src/benchmarks.md     puts them into the page, between its markers

A table whose bench has not run, or ran with --quick or a filter, stays as it is; stderr says so.
"""

import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "target" / "bench"
MARKED = r"(<!-- figures: {} -->\n).*?(<!-- end -->)"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value, digits=2):
    if isinstance(value, int) or float(value).is_integer() or abs(value) >= 1000:
        return f"{round(value):,}"
    return f"{value:.{digits}f}"


def provenance(run):
    at = datetime.fromtimestamp(run["at"], timezone.utc)
    machine = run["machine"]
    return (
        f"`cargo bench -p bowline-http-client --bench {run['bench']}` on {at:%Y-%m-%d}: {machine['cores']} cores "
        f"({machine['cpu']}), {machine['memory_gib']:.0f} GiB, {machine['system']}."
    )


RATIOS = ["vs_reqwest", "vs_hyper", "vs_reqwest_dpop", "vs_bowline_dpop"]
PARTS = [f"{http}.c{tasks}{verified}" for verified in ("", ".verified") for http in ("h1", "h2") for tasks in (1, 32)]


def throughput_ratios(run):
    values, notes = run["values"], run["notes"]
    rows = []
    for part in PARTS:
        row = [f"`{part}`"]
        for ratio in RATIOS:
            name = f"{part}.{ratio}"
            low, high = notes[name]
            row.append(f"{values[name]:.2f} ({low:.2f} to {high:.2f})")
        rows.append(row)
    return table(["", *(f"`{ratio}`" for ratio in RATIOS)], rows)


def throughput_rates(run):
    contenders = ["reqwest", "hyper", "bowline", "reqwest_dpop", "bowline_dpop"]
    values = run["values"]

    def cell(part, name):
        processor = values[f"{part}.{name}.processor_microseconds"]
        return f"{number(values[f'{part}.{name}.per_second'])} ({processor:.1f})"

    rows = [[f"`{part}`"] + [cell(part, name) for name in contenders] for part in PARTS]
    return table(["requests per second (processor µs)", *(f"`{name}`" for name in contenders)], rows)


def warm_path_counts(run):
    ways = {
        "hyper_bearer": "a bare hyper connection, no proof",
        "hyper_proof": "the same, with its proof",
        "bowline_bearer": "bowline, no proof",
        "bowline_proof": "bowline, a known proof",
        "bowline_proof_by_field": "the same, token as `Authorization` string",
        "bowline_dpop": "bowline, a DPoP proof",
        "reqwest": "reqwest, no proof",
        "reqwest_dpop": "reqwest, a DPoP proof",
        "proof_adds": "**a known proof adds to bowline**",
        "proof_adds_to_hyper": "a known proof adds to hyper",
    }
    values = run["values"]
    columns = [f"{http}.{what}" for http in ("h1", "h2") for what in ("allocations", "instructions")]
    rows = [[text] + [number(values[f"{column}.{way}"]) for column in columns] for way, text in ways.items()]
    return table(["per request", *(column.replace(".", " ") for column in columns)], rows)


def warm_path_bytes(run):
    values = run["values"]
    rows = [["h1", "", "1"] + [number(values[f"h1.bytes.{what}"], 1) for what in ("bearer", "proof_adds", "dpop_adds")]]
    for key, size in (("table4k", "4,096"), ("table64k", "65,536")):
        for tokens in (1, 5, 10, 100):
            part = f"h2.bytes.{key}.tokens{tokens}"
            found = [number(values[f"{part}.{what}"], 1) for what in ("bearer", "proof_adds", "dpop_adds")]
            rows.append(["h2", size, tokens, *found])
    return table(
        ["", "server's header table", "tokens in turn", "without a proof", "a known proof adds", "a DPoP proof adds"], rows
    )


def memory(run):
    values = run["values"]
    lines = {
        "per_hyper_connection": "an idle bare hyper connection",
        "per_connection": "an idle connection of bowline's",
        "per_pair": "**a (token, connection)** (aim: ≤ 2,048)",
    }
    columns = [f"{http}.{{}}.{what}" for http in ("h1", "h2") for what in ("live", "resident")]
    rows = [[text] + [number(round(values[column.format(key)])) for column in columns] for key, text in lines.items()]
    return table(["bytes", "h1 live", "h1 resident", "h2 live", "h2 resident"], rows)


def slow_key(run):
    values = run["values"]
    rows = []
    for http in ("h1", "h2"):
        for what in ("p50", "p99"):
            part = f"{http}.{what}"
            found = [number(values[f"{part}.{key}"], 0) for key in ("quiet_microseconds", "signing_microseconds")]
            rows.append([f"{http} {what}", *found, f"{values[f'{part}.signing_vs_quiet']:.2f}"])
    return table(["", "µs, nothing is signed", "µs, a signing is under way", "ratio"], rows)


TABLES = {
    "throughput": {"throughput-ratios": throughput_ratios, "throughput-rates": throughput_rates},
    "warm_path": {"warm-path-counts": warm_path_counts, "warm-path-bytes": warm_path_bytes},
    "memory": {"memory": memory},
    "slow_key": {"slow-key": slow_key},
}


def made():
    """Every table that can be made, by its marker."""
    for bench, tables in TABLES.items():
        file = FOLDER / f"{bench}.json"
        if not file.exists():
            print(f"{bench}: not run (no {file})", file=sys.stderr)
            continue
        run = json.loads(file.read_text())
        if run["quick"]:
            print(f"{bench}: ran with --quick, so its figures mean nothing", file=sys.stderr)
            continue
        for marker, make in tables.items():
            try:
                yield marker, f"{provenance(run)}\n\n{make(run)}\n"
            except KeyError as missing:
                print(f"{marker}: no figure {missing}; run the whole bench", file=sys.stderr)


def main():
    pages = [Path(argument) for argument in sys.argv[1:]]
    for marker, text in made():
        if not pages:
            print(f"<!-- figures: {marker} -->\n{text}<!-- end -->\n")
        for page in pages:
            old = page.read_text()
            new, count = re.subn(MARKED.format(marker), lambda found: found[1] + text + found[2], old, flags=re.S)
            if count != 1:
                sys.exit(f"{page}: {count} places for {marker}, where there should be one")
            page.write_text(new)


if __name__ == "__main__":
    main()

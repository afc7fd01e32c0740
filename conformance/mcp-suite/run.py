"""Runs the client scenarios of the MCP conformance suite: one client, over rmcp's stock transport, the same through `bowline egress` as
its HTTP proxy, and over bowline's transport.

    python3 run.py CLIENT BOWLINE [SUMMARY]

CLIENT is the path of bowline-conformance-mcp-client, BOWLINE that of the command; SUMMARY, a file for the results as Markdown. Fails
unless every scenario has the result that is written below (one that passes although it should fail is a failure too), the same one
through the egress, and the egress has carried requests in each. Needs root, for the namespaces of through_egress.py.
"""

import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
REVISIONS = ["2025-11-25", "2026-07-28"]
TRANSPORTS = ["stock", "bowline"]

# What does not pass, and why. Over both transports:
EITHER = {
    "auth/client-credentials-jwt": "our client has no code for it (rmcp has, behind a feature)",
    "auth/enterprise-managed-authorization": "our client has no code for it",
    "auth/wif-jwt-bearer": "our client has no code for it",
}
# A warning counts as a failure.
ONLY_IN = {
    "auth/scope-step-up": ("2026-07-28", "a warning: our client starts over with a new manager, which does not know the scopes granted before"),
}
# Over one of them alone:
STOCK = {
    "auth/dpop": "rmcp knows no DPoP",
    "auth/dpop-nonce": "rmcp knows no DPoP",
}

LINE = re.compile(r"^\s*[✓✗~⚠]?\s*(\S+): (\d+) passed, (\d+) failed(?:, (\d+) warnings)?$")


def main(client, bowline, summary=None):
    results, carried = {}, {}
    client = pathlib.Path(client).resolve()
    for revision in REVISIONS:
        for transport in TRANSPORTS:
            results[revision, transport] = suite(f"{client} {transport}", revision)
    wrong = [line for key, found in results.items() for line in differences(*key, found)]
    for revision in REVISIONS:
        through, carried[revision] = through_egress(client, pathlib.Path(bowline).resolve(), revision)
        wrong += egress_differences(revision, results[revision, "stock"], through, carried[revision])
    text = table(results, carried)
    print(text)
    if summary:
        pathlib.Path(summary).write_text(header() + text)
    for line in wrong:
        print(f"mcp-suite: {line}", file=sys.stderr)
    return 1 if wrong else 0


def through_egress(client, bowline, revision):
    """The results of the stock transport behind the egress, and how many requests it carried in each scenario."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([bowline, "pki", "init", f"{folder}/pki"], check=True, stdout=subprocess.DEVNULL)
        counts = pathlib.Path(folder, "counts")
        found = suite(f"python3 {HERE}/through_egress.py {bowline} {folder}/pki {counts} {client} stock", revision)
        carried = {}
        for line in counts.read_text().splitlines():
            scenario, requests = line.split()
            carried[scenario] = carried.get(scenario, 0) + int(requests)
        return found, carried


def egress_differences(revision, stock, through, carried):
    for name in [*stock, *(name for name in through if name not in stock)]:
        if stock.get(name) != through.get(name):
            yield f"{revision}: {name} is {shown(stock.get(name))}, and through the egress {shown(through.get(name))}"
        if carried.get(name, 0) <= 0:
            yield f"{revision}: {name}: the egress carried no request"


def command_of_suite():
    arch = "arm64" if platform.machine() == "aarch64" else "x64"
    modules = HERE / "node_modules"
    return [str(modules / f"node-linux-{arch}/bin/node"), str(modules / "@modelcontextprotocol/conformance/dist/index.js")]


def suite(command, revision):
    command = [
        *command_of_suite(),
        *("client", "--requirements", revision),
        *("--command", command),
    ]
    # Its exit status does not cover the scenarios that it does not score.
    run = subprocess.run(command, cwd="/tmp", capture_output=True, text=True, timeout=600)
    output = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
    found = {}
    for line in output.splitlines():
        if match := LINE.match(line):
            name, passed, failed, warnings = match.groups()
            if name != "Total":
                found[name] = (int(passed), int(failed), int(warnings or 0))
    if not found:
        sys.exit(f"mcp-suite: the suite ran nothing for {command}, {revision}:\n{output}")
    return found


def reason(revision, transport, name):
    if name in ONLY_IN:
        where, why = ONLY_IN[name]
        return why if where == revision else None
    return EITHER.get(name) or (STOCK.get(name) if transport == "stock" else None)


def passes(result):
    _passed, failed, warnings = result
    return failed == 0 and warnings == 0


def differences(revision, transport, found):
    for name, result in found.items():
        expected = reason(revision, transport, name) is None
        if passes(result) != expected:
            says = "passes, and is listed as failing" if not expected else "fails"
            yield f"{revision}, {transport}: {name} {says}: {result}"
    for name in [*EITHER, *STOCK]:
        if name not in found:
            yield f"{revision}, {transport}: {name} was not run"


def table(results, carried):
    lines = []
    for revision in REVISIONS:
        stock, bowline = (results[revision, transport] for transport in TRANSPORTS)
        lines += [f"## {revision}", "", "| scenario | rmcp's stock transport | requests that the egress carried, same result | bowline's | |", "|---|---|---|---|---|"]
        for name in stock:
            why = reason(revision, "stock", name) or reason(revision, "bowline", name) or ""
            lines.append(f"| `{name}` | {shown(stock[name])} | {carried[revision].get(name, 0)} | {shown(bowline.get(name))} | {why} |")
        lines += [f"| all | {added(stock)} | {sum(carried[revision].values())} | {added(bowline)} | |", ""]
    return "\n".join(lines)


def added(found):
    passed, failed = (sum(result[which] for result in found.values()) for which in (0, 1))
    return f"{passed} checks passed, {failed} failed"


def shown(result):
    if result is None:
        return "not run"
    passed, failed, warnings = result
    return f"{passed} passed" + (f", {failed} failed" if failed else "") + (f", {warnings} warning" if warnings else "")


def header():
    date = subprocess.run(["date", "-u", "+%Y-%m-%d"], capture_output=True, text=True, check=True).stdout.strip()
    suite = re.search(r'"@modelcontextprotocol/conformance": "([^"]+)"', (HERE / "package.json").read_text())[1]
    return (
        f"# MCP conformance suite, client scenarios\n\n`just mcp-suite` on {date}, a virtual machine with 2 cores and 24 GiB, "
        f"Debian 12; suite {suite}. One client, `conformance/mcp-client`, over two transports, plaintext on loopback; the stock one also behind `bowline egress`.\n\n"
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

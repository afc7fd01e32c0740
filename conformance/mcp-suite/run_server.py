"""Runs the server scenarios of the MCP conformance suite against a server on the Python SDK, directly and through the pair:

    suite --plaintext--> bowline egress, token from a file --mutual TLS, token, proof--> bowline ingress --> server

    python3 run_server.py BOWLINE PYTHON [SUMMARY]

PYTHON is one with `mcp` and `uvicorn`; SUMMARY, a file for the results as Markdown. The server offers only a part of what the scenarios
ask for, so some fail. Fails unless each has the same result both ways, but for those that are named below.
"""

import base64
import hashlib
import json
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import time

from run import HERE, LINE, REVISIONS, command_of_suite, header, shown

# What differs, and must: the result through the pair, and why.
DIFFERENT = {
    "dns-rebinding-protection": ((1, 1, 0), "an egress with a token source refuses requests with the `Origin` of another origin, also of its own "
                                            "plaintext address (GW-7): a page could send them. The other check, a wrong `Host`, passes"),
}


def main(bowline, python, summary=None):
    bowline = str(pathlib.Path(bowline).resolve())
    results, stats = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([bowline, "pki", "init", f"{folder}/pki"], check=True, stdout=subprocess.DEVNULL)
        token(folder)
        for revision in REVISIONS:
            with Pair(bowline, python, folder) as pair:
                results[revision, "direct"] = suite(pair.server, revision)
                results[revision, "pair"] = suite(pair.egress, revision)
            stats[revision] = pair.stats
    text, wrong = table(results, stats)
    print(text)
    if summary:
        title = header().replace("client scenarios", "server scenarios").replace("`just mcp-suite`", "`just mcp-suite-server`")
        about = "A server on the Python SDK, `conformance/mcp-suite/everything.py`, directly and through `bowline egress` and `bowline ingress`."
        pathlib.Path(summary).write_text(re.sub(r" One client, .*", f" {about}", title) + text)
    for line in wrong:
        print(f"mcp-suite: {line}", file=sys.stderr)
    return 1 if wrong else 0


def token(folder):
    """A token as an authorization server of today binds it to the client's certificate; `--binding-only` reads no more of it."""
    certificate = ssl.PEM_cert_to_DER_cert(pathlib.Path(folder, "pki/client.pem").read_text().split("-----END CERTIFICATE-----")[0]
                                           + "-----END CERTIFICATE-----\n")
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    claims = {"sub": "agent", "exp": int(time.time()) + 3600, "cnf": {"x5t#S256": encode(hashlib.sha256(certificate).digest())}}
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "at+jwt"}, claims)]
    file = pathlib.Path(folder, "token")
    file.write_text(".".join([*parts, encode(b"signature")]))
    file.chmod(0o600)


class Pair:
    """The three processes; `stats` is what the egress says at its end."""

    def __init__(self, bowline, python, folder):
        self.bowline, self.python, self.folder = bowline, python, folder
        self.processes = []

    def __enter__(self):
        server = subprocess.Popen([self.python, str(HERE / "everything.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(server)
        port = int(server.stdout.readline())
        pki = f"{self.folder}/pki"
        ingress = self.listening("ingress", "--upstream", f"http://127.0.0.1:{port}", "--binding-only", "--client-ca", f"{pki}/ca.pem",
                                 "--cert", f"{pki}/server.pem", "--key", f"{pki}/server.key")
        origin = f"https://localhost:{ingress.rsplit(':', 1)[1]}"
        egress = self.listening("egress", "--allow", origin, "--upstream", origin, "--cacert", f"{pki}/ca.pem", "--cert", f"{pki}/client.pem",
                                "--key", f"{pki}/client.key", "--token-source", f"file:{self.folder}/token")
        self.server, self.egress = f"http://127.0.0.1:{port}/mcp", f"http://{egress}/mcp"
        return self

    def listening(self, *arguments):
        log = open(f"{self.folder}/{arguments[0]}.log", "w+")
        process = subprocess.Popen([self.bowline, *arguments, "--listen", "127.0.0.1:0"], stderr=log)
        self.processes.append(process)
        for _ in range(600):
            if found := re.search(r"listening on ([\d.:]+)", pathlib.Path(log.name).read_text()):
                return found[1]
            if process.poll() is not None:
                break
            time.sleep(0.05)
        sys.exit(f"mcp-suite: {arguments[0]} did not start: {pathlib.Path(log.name).read_text()}")

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(60)
        log = pathlib.Path(self.folder, "egress.log").read_text()
        self.stats = re.findall(r"\d+ agent connections in, .*", log)[-1]


def suite(url, revision):
    command = [*command_of_suite(), "server", "--requirements", revision, "--url", url]
    run = subprocess.run(command, cwd="/tmp", capture_output=True, text=True, timeout=900)
    output = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
    matches = filter(None, map(LINE.match, output.splitlines()))
    found = {name: (int(passed), int(failed), int(warnings or 0)) for name, passed, failed, warnings in (m.groups() for m in matches)}
    found.pop("Total", None)
    if not found:
        sys.exit(f"mcp-suite: the suite ran nothing against {url}, {revision}:\n{output}")
    return found


def table(results, stats):
    lines, wrong = [], []
    for revision in REVISIONS:
        direct, pair = results[revision, "direct"], results[revision, "pair"]
        lines += [f"## {revision}", "", "| scenario | directly | through the pair | |", "|---|---|---|---|"]
        for name in [*direct, *(name for name in pair if name not in direct)]:
            expected, why = DIFFERENT.get(name, (direct.get(name), ""))
            lines.append(f"| `{name}` | {shown(direct.get(name))} | {shown(pair.get(name))} | {why} |")
            if pair.get(name) != expected:
                wrong.append(f"{revision}: {name}: {shown(direct.get(name))} directly, {shown(pair.get(name))} through the pair")
        lines += ["", f"The egress: {stats[revision]}", ""]
    return "\n".join(lines), wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

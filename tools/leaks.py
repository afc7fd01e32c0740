"""Runs tests with everything shown, at TRACE, and searches what they print for the secrets that
they made (EX-7): keys, access tokens, proofs, exporter values.

    python3 tools/leaks.py                   # the whole workspace
    python3 tools/leaks.py -p bowline-mcp    # some crates; options go to `cargo test`
    python3 tools/leaks.py --self-test       # whether each spelling would be found

The testkit writes each secret to a file (sdk/testkit/src/secrets.rs). A client may log a proof
before the server that records it has seen it; so the output of a test binary goes to a file, and is
searched when the binary has ended, by grep, which reads it as a stream. Then the file is deleted.
Tests run one at a time: so each line is in the test that wrote it.

Exit status: 0 if nothing was found; 1 if something was, if a test failed, or if time ran out. What
is found is named by its kind, its spelling and its test, and never shown.
"""

import argparse
import base64
import bisect
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A secret is searched for by pieces of this length: so its halves are found too. No shorter secret
# is searched for: it would be found in words.
PIECE = 16
# More than the longest spelling of a piece.
OVERLAP = 256
# What libtest prints before the output of a test.
TEST = "^test [^ ]+ (- should panic )?[.]{3} "
UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def main():
    parser = argparse.ArgumentParser(description="Searches what tests print for secrets.")
    parser.add_argument("--minutes", type=float, default=90, help="time limit (default 90)")
    parser.add_argument("--self-test", action="store_true", help="search for planted secrets")
    options, cargo = parser.parse_known_args()
    deadline = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="bowline-leaks-") as folder:
        if options.self_test:
            return self_test(Path(folder))
        return run_tests(cargo or ["--workspace"], Path(folder), deadline)


def run_tests(cargo, folder, deadline):
    totals = {"tests": 0, "bytes": 0, "secrets": 0, "patterns": 0}
    problems = []
    binaries = built(cargo)
    for number, (binary, package) in enumerate(binaries, 1):
        name = f"{package.name}/{re.sub('-[0-9a-f]{16}$', '', binary.name)}"
        started = time.monotonic()
        output, secrets = folder / "output", folder / "secrets"
        secrets.write_bytes(b"")
        status = run(binary, package, output, secrets, deadline)
        if status is None:
            print(f"leaks: out of time in {name}", file=sys.stderr)
            return 1
        if status != 0:
            problems.append(f"{name} failed with status {status}: {failed_tests(output)}")
        patterns = spellings(secrets.read_text().splitlines())
        try:
            places, tests = search(output, patterns, folder, deadline)
        except TimeoutError:
            print(f"leaks: out of time in the search of {name}", file=sys.stderr)
            return 1
        problems += [f"{name}: {place}" for place in places]
        size = output.stat().st_size
        output.unlink()
        counted = len(secrets.read_text().splitlines())
        for key, count in zip(totals, (tests, size, counted, len(patterns))):
            totals[key] += count
        seconds = time.monotonic() - started
        print(
            f"leaks: {number}/{len(binaries)} {name}: {tests} tests, {size / 1e6:.1f} MB, "
            f"{counted} secrets, {len(patterns)} patterns, {seconds:.0f} s",
            flush=True,
        )
    for problem in problems:
        print(f"leaks: {problem}", file=sys.stderr)
    print(
        f"leaks: {totals['tests']} tests, {totals['bytes'] / 1e6:.1f} MB, "
        f"{totals['secrets']} secrets, {totals['patterns']} patterns, {len(problems)} problems"
    )
    return 1 if problems else 0


def built(cargo):
    """The test binaries, each with the folder of its package."""
    command = ["cargo", "test", "--no-run", "--lib", "--bins", "--tests", "--message-format=json"]
    lines = subprocess.run([*command, *cargo], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    artifacts = [json.loads(line) for line in lines.splitlines() if line.startswith(b"{")]
    return [
        (Path(artifact["executable"]), Path(artifact["manifest_path"]).parent)
        for artifact in artifacts
        if artifact.get("executable") and artifact.get("profile", {}).get("test")
    ]


def run(binary, package, output, secrets, deadline):
    """The exit status; `None` if time ran out."""
    environment = {
        **os.environ,
        "BOWLINE_TEST_SECRETS": str(secrets),
        "RUST_LOG": "trace",
        "CARGO_MANIFEST_DIR": str(package),
    }
    command = [binary, "--nocapture", "--test-threads=1"]
    with open(output, "wb") as file:
        # A group of its own, so that whatever a test has started ends with it.
        child = subprocess.Popen(
            command,
            cwd=package,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        told = time.monotonic()
        while child.poll() is None:
            now = time.monotonic()
            if now > deadline:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return None
            if now - told > 30:
                told = now
                size = output.stat().st_size / 1e6
                print(f"leaks: {binary.name}: {size:.0f} MB so far", flush=True)
            time.sleep(0.1)
    return child.returncode


def failed_tests(output):
    """What libtest lists at its end."""
    with open(output, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 10_000))
        summary = file.read().decode(errors="replace").rpartition("\nfailures:\n")[2]
    return ", ".join(re.findall("^    ([^ ]+)$", summary, re.MULTILINE)) or "no list of failures"


def spellings(lines):
    """A dictionary from what is searched for to the kind of secret and the spelling."""
    patterns = {}
    for line in set(lines):
        kind, encoded = line.split(" ", 1)
        secret = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        for piece in pieces(secret):
            for spelling, text in spelled(piece):
                patterns.setdefault(text, (kind, spelling))
    return patterns


def pieces(secret):
    """Of a JWS, without its head, which is no secret; of others, all."""
    segments = secret.split(b".")
    is_jws = len(segments) == 3 and secret.startswith(b"eyJ")
    for part in segments[1:] if is_jws else [secret]:
        if len(part) < PIECE:
            continue
        # One in each half. Of a payload not its beginning, where claims stand that are no secrets.
        for at in {len(part) // 4, len(part) - PIECE - len(part) // 8, len(part) - PIECE}:
            yield part[max(0, min(at, len(part) - PIECE)) :][:PIECE]


def spelled(piece):
    """Each way in which the bytes may be written, without what depends on the bytes around them,
    and without white space, which is not searched either: it may be anywhere in a list or in PEM."""
    if all(0x20 < byte < 0x7F for byte in piece):
        yield "as it is", piece
        yield "with escapes", piece.replace(b"/", b"\\/")
    for shift in range(3):
        # Whole groups of three bytes only: the first and last characters hold bits of others.
        encoded = base64.b64encode(bytes(shift) + piece)
        inner = encoded[-(-shift * 8 // 6) : (shift + len(piece)) // 3 * 4]
        yield "in base64", inner
        yield "in base64url", inner.translate(bytes.maketrans(b"+/", b"-_"))
        yield "in base64, percent-encoded", inner.replace(b"+", b"%2B").replace(b"/", b"%2F")
    for digits in (piece.hex(), piece.hex(":")):
        yield "in hex", digits.encode()
        yield "in hex", digits.upper().encode()
    for separator in (",", "", ";"):
        yield "as a list of numbers", separator.join(str(byte) for byte in piece).encode()
    for form in ("#x", "#04x", "#04X"):
        yield "as a list of hex numbers", ",".join(f"{byte:{form}}" for byte in piece).encode()
    escaped = "".join(chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in piece)
    yield "percent-encoded", escaped.encode()
    yield "percent-encoded", re.sub("%..", lambda found: found[0].lower(), escaped).encode()
    yield "percent-encoded", "".join(f"%{byte:02X}" for byte in piece).encode()
    shown = (chr(b) if 0x20 <= b < 0x7F and b not in b'\\"' else f"\\x{b:02x}" for b in piece)
    yield "with escapes", "".join(shown).encode()


class Output:
    """What a test binary printed: a stream without white space, in lines that overlap."""

    def __init__(self, path):
        self.path = path
        # Where the output of each test begins, in the file and in the stream.
        self.names, self.starts = [], []
        # Where each line begins, as grep counts, and in the stream.
        self.lines, self.line_starts = [], []
        found = run_grep(["--extended-regexp", TEST], path)
        self.tests = [(at, name.split(b" ")[1].decode()) for at, name in found]

    def write_to(self, stream):
        """Writes the stream, and notes where the tests and the lines are."""
        written = position = 0
        overlap = b""
        bounds = [at for at, _ in self.tests] + [self.path.stat().st_size]
        with open(self.path, "rb") as file:
            # Before the first test there is nothing but their number.
            file.seek(bounds[0])
            for (at, name), end in zip(self.tests, bounds[1:]):
                self.names.append(name)
                self.starts.append(position)
                while at < end:
                    chunk = file.read(min(1 << 20, end - at))
                    at += len(chunk)
                    text = chunk.translate(None, b" \t\r\n")
                    self.lines.append(written)
                    self.line_starts.append(position - len(overlap))
                    line = overlap + text + b"\n"
                    stream.write(line)
                    written += len(line)
                    position += len(text)
                    overlap = (overlap + text)[-OVERLAP:]

    def place(self, at):
        """The position in the stream, and the test, of what grep found."""
        line = bisect.bisect(self.lines, at) - 1
        position = self.line_starts[line] + at - self.lines[line]
        return position, self.names[max(0, bisect.bisect(self.starts, position) - 1)]


def search(path, patterns, folder, deadline=math.inf):
    """Where patterns are found, and the number of tests."""
    output = Output(path)
    if not patterns or not output.tests:
        return [], len(output.tests)
    file = folder / "patterns"
    file.write_bytes(b"\n".join(patterns) + b"\n")
    places = {}
    for at, found in run_grep(["--fixed-strings", "--file", str(file)], output, deadline):
        position, test = output.place(at)
        kind, spelling = patterns[found]
        places.setdefault(f"a {kind} {spelling} in {test}", set()).add(position)
    return [f"{place} ({len(found)} times)" for place, found in places.items()], len(output.tests)


def run_grep(arguments, source, deadline=math.inf):
    """The offset and the text of each match in a file or in an `Output`."""
    command = ["grep", "--text", "--only-matching", "--byte-offset", *arguments]
    environment = {**os.environ, "LC_ALL": "C"}
    stdin = subprocess.PIPE
    if isinstance(source, Path):
        command, stdin = [*command, str(source)], subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdin=stdin, stdout=subprocess.PIPE) as child:
        if isinstance(source, Output):
            writer = threading.Thread(target=feed, args=(source, child.stdin))
            writer.start()
        if deadline < math.inf:
            killer = threading.Timer(max(0, deadline - time.monotonic()), child.kill)
            killer.start()
        lines = child.stdout.read().splitlines()
        if isinstance(source, Output):
            writer.join()
    if deadline < math.inf:
        killer.cancel()
    if child.returncode < 0:
        raise TimeoutError
    if child.returncode > 1:
        raise RuntimeError(f"grep failed with status {child.returncode}")
    found = (line.split(b":", 1) for line in lines)
    return [(int(at), text) for at, text in found]


def feed(output, stream):
    # grep has gone if time ran out.
    with contextlib.suppress(BrokenPipeError), stream:
        output.write_to(stream)


def self_test(folder):
    """Plants secrets in what a test might print: each spelling is found, and nothing else."""
    failed = 0
    token = base64.urlsafe_b64encode(os.urandom(48))
    for secret in (token, os.urandom(32), b"eyJhbGciOiJFUzI1NiJ9." + token + b"." + token):
        line = "kind " + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
        patterns = spellings([line])
        for name, text in planted(secret):
            output = folder / "output"
            lines = (f"{n} TRACE h2::codec: frame {os.urandom(40).hex()}\n" for n in range(2000))
            noise = "".join(lines).encode()
            first = b"running 2 tests\ntest a::first ... " + noise + b"ok\n"
            second = b"test a::second ... sent: " + text + b" of a secret\n" + noise + b"ok\n"
            output.write_bytes(first + second)
            places, tests = search(output, patterns, folder)
            is_right = tests == 2 and places and all("in a::second" in place for place in places)
            if not is_right:
                failed += 1
                print(f"leaks: a secret {name} is not found: {places}", file=sys.stderr)
        output.write_bytes(first)
        if search(output, patterns, folder)[0]:
            failed += 1
            print("leaks: a secret is found where there is none", file=sys.stderr)
    print(f"leaks: self-test, {failed} failures")
    return 1 if failed else 0


def planted(secret):
    """Spellings by other means than those of the search."""
    for before in (b"", b"x", b"xy"):
        for after in (b"", b"z"):
            around = before + secret + after
            yield "in base64", base64.b64encode(around)
            yield "in base64 without padding", base64.b64encode(around).rstrip(b"=")
            yield "in base64url", base64.urlsafe_b64encode(around)
    yield "in lines of base64", base64.encodebytes(secret)
    yield "in hex", secret.hex().encode()
    yield "in hex", secret.hex().upper().encode()
    yield "in hex with colons", secret.hex(":").encode()
    yield "in `Debug`", str(list(secret)).encode()
    yield "in `Debug` over lines", json.dumps(list(secret), indent=4).encode()
    yield "percent-encoded", urllib.parse.quote_from_bytes(secret, safe="").encode()
    if secret.isascii():
        half = len(secret) // 2
        yield "as it is", secret
        yield "its first half", secret[:half]
        yield "its second half", secret[half:]


if __name__ == "__main__":
    sys.exit(main())

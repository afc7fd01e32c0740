#!/usr/bin/env python3
"""Runs the commands of a page of the book as they stand there, and compares what they print with what the page says.

    python3 tools/quickstart.py docs/src/quickstart.md

Runs each block `sh`, in one bash, from the repository's root on. A block `text` behind it is what it prints: `…` stands for
anything within a line, and alone for any lines. Ends with 1 at the first command that fails or prints something else; what the
page has started ends with it.
"""
import os, pathlib, re, signal, subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Long for a download, and only against hanging.
LIMIT = 600
DONE = "quickstart: done"
# Any command that fails ends the block, also within a pipe.
PROLOGUE = f"""
set -E -o pipefail
trap 'printf "\\n{DONE} %s\\n" $?; exit 1' ERR
"""


def main(page):
    blocks = FENCE.findall(pathlib.Path(page).read_text())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run_all(blocks, folder)


def run_all(blocks, folder):
    bash = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            cwd=ROOT, start_new_session=True, env=os.environ | {"TMPDIR": folder})
    guard = threading.Timer(LIMIT, end, [bash])
    guard.start()
    began = time.monotonic()
    try:
        bash.stdin.write(PROLOGUE)
        printed = None
        for kind, text in blocks:
            if kind == "sh":
                started = time.monotonic()
                printed = run(bash, text)
                print(text, printed, f"# {time.monotonic() - started:.1f} s\n", sep="", flush=True)
            elif printed is not None and not pattern(text).fullmatch(printed.strip() + "\n"):
                sys.exit(f"quickstart: the page says that this prints:\n{text}")
    finally:
        guard.cancel()
        end(bash)
    print(f"quickstart: {sum(kind == 'sh' for kind, _ in blocks)} blocks in {time.monotonic() - began:.0f} s, as on the page")


def run(bash, text):
    bash.stdin.write(f'{text}\nprintf "\\n{DONE} 0\\n"\n')
    bash.stdin.flush()
    lines = []
    for line in bash.stdout:
        if line.startswith(DONE):
            printed = "".join(lines)
            if line.split()[-1] != "0":
                sys.exit(f"{text}{printed}quickstart: a command failed with status {line.split()[-1]}")
            return printed
        lines.append(line)
    sys.exit(f"{text}{''.join(lines)}quickstart: it did not end within {LIMIT} s")


def pattern(text):
    lines = (r"[^\n]*".join(map(re.escape, line.split("…"))) + "\n" for line in text.strip().splitlines())
    anything = r"[^\n]*" + "\n"
    whole = "".join(f"(?:{anything})*" if line == anything else line for line in lines)
    return re.compile(whole)


def end(bash):
    try:
        os.killpg(bash.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])

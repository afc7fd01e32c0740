#!/usr/bin/env python3
"""Checks conformance/requirements.toml, and writes docs/src/requirements.md from it.

    python3 tools/requirements.py            # 1 if something is wrong, or the page is not what --write would write
    python3 tools/requirements.py --write

Wrong is: an id without tests and without a reason; a test that does not exist, or a Rust function that is no test; a row of
the wire profile that is not there; an id that code or the book cites and that is not there. A test is `file::function`.
"""
import pathlib, re, sys, tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = "conformance/requirements.toml"
PAGE = "docs/src/requirements.md"
PROFILE = "docs/src/wire-profile.md"
CITING = {"sdk": (".rs", ".toml"), "examples": (".rs", ".py"), "conformance": (".rs", ".py", ".js", ".mjs", ".json"),
          "tools": (".py",), "docs/src": (".md",)}
SKIPPED = {"node_modules", "target", "book"}
# Cited ids: `RS-5`. Those of a threat (`T1`) have no hyphen and are not looked for.
ID = r"{}-\d+"
ATTRIBUTE = r"#\[(?:\w+::)*(?:test|tokio_test)\b[^\]]*\](?:\s*(?:#\[[^\]]*\]|//[^\n]*\n))*\s*(?:pub )?(?:async )?fn {}\b"
FUNCTION = {".rs": ATTRIBUTE, ".py": r"\bdef {}\b", ".mjs": r"\bfunction\*? {}\b", ".js": r"\bfunction\*? {}\b"}
MEMBERS = {"id", "from", "text", "tests", "reason", "gap"}


def check(matrix):
    """Yields what is wrong."""
    rows = matrix["requirement"]
    ids = [row["id"] for row in rows]
    for twice in {id for id in ids if ids.count(id) > 1}:
        yield f"{twice} is there twice"
    for row in rows:
        for unknown in row.keys() - MEMBERS:
            yield f"{row['id']}: what is {unknown}?"
        if not row.get("tests") and not row.get("reason"):
            yield f"{row['id']} has neither tests nor a reason"
        if row.get("tests") and row.get("reason"):
            yield f"{row['id']} has tests and a reason why there are none; what they leave out is a gap"
        for test in row.get("tests", ()):
            if problem := missing(test):
                yield f"{row['id']}: {test}: {problem}"
    for id in re.findall(r"^\| ((?:[A-Z]{2}-|[TR])\d+) \|", (ROOT / PROFILE).read_text(), re.M):
        if id not in ids:
            yield f"{id} is in {PROFILE} and not in {SOURCE}"
    yield from cited(matrix, set(ids))


def missing(test):
    """Why `file::function` is no test, or None."""
    file, _, name = test.partition("::")
    path = ROOT / file
    if not path.is_file():
        return "no such file"
    if not re.search(FUNCTION[path.suffix].format(re.escape(name)), path.read_text()):
        return "no such test in that file"


def cited(matrix, ids):
    """Yields each id with a known prefix that is cited and does not exist."""
    elsewhere = {prefix: (ROOT / file).read_text() for prefix, file in matrix["defined_elsewhere"].items()}
    prefixes = {id.partition("-")[0] for id in ids if "-" in id} | elsewhere.keys()
    wanted = re.compile(r"(?<![\w-])" + ID.format(f"({'|'.join(sorted(prefixes))})") + r"(?![\w-])")
    for folder, suffixes in CITING.items():
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT)
            if path.suffix not in suffixes or SKIPPED & set(name.parts) or str(name) in (SOURCE, PAGE) or not path.is_file():
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                for found in wanted.finditer(line):
                    id, prefix = found[0], found[1]
                    if id not in ids and f'"{id}"' not in elsewhere.get(prefix, ""):
                        yield f"{name}:{number}: {id} is in neither {SOURCE} nor the files that it names"


def page(matrix):
    """The page of the book."""
    rows = matrix["requirement"]
    covered = [row for row in rows if row.get("tests")]
    gaps = [row for row in covered if row.get("gap")]
    reasons = {}
    for row in rows:
        if row.get("reason"):
            reasons.setdefault(row["reason"], []).append(row["id"])
    yield "# Requirements"
    yield ""
    yield f"<!-- Written by tools/requirements.py from {SOURCE}; do not edit. -->"
    yield ""
    yield matrix["about"].strip()
    yield ""
    yield (f"**{len(rows)} requirements: {len(covered)} with tests, of which {len(gaps)} leave a gap that is named; "
           f"{len(rows) - len(covered)} without, for these reasons:**")
    yield ""
    yield "| reason | requirements |"
    yield "|---|---|"
    for reason, ids in reasons.items():
        yield f"| {reason} | {', '.join(ids)} |"
    sections = {}
    for row in rows:
        sections.setdefault(section(matrix, row["id"]), []).append(row)
    for title, group in sections.items():
        yield ""
        yield f"## {title}"
        yield ""
        yield "| id | requirement, in our words | shown by |"
        yield "|---|---|---|"
        for row in group:
            source = f" ({row['from']})" if "from" in row else ""
            yield f"| {row['id']} | {row['text']}{source} | {shown(row)} |"


def section(matrix, id):
    return matrix["sections"][re.match("[A-Z]+", id)[0]]


def shown(row):
    if "reason" in row:
        return f"no test: {row['reason']}"
    parts = []
    for test in row.get("tests", ()):
        file, _, name = test.partition("::")
        parts.append(f"`{name}` ([{short(file)}](../../{file}))")
    gap = f". **Gap**: {row['gap']}" if "gap" in row else ""
    return ", ".join(parts) + gap


def short(file):
    return file.removeprefix("sdk/").removeprefix("conformance/").replace("/tests/it/", " ").replace("/src/", " ")


def main():
    matrix = tomllib.loads((ROOT / SOURCE).read_text())
    wrong = list(check(matrix))
    text = "\n".join(page(matrix)) + "\n"
    path = ROOT / PAGE
    if "--write" in sys.argv[1:]:
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        wrong.append(f"{PAGE} is stale: python3 tools/requirements.py --write")
    for problem in wrong:
        print(problem)
    rows = matrix["requirement"]
    print(f"{len(rows)} requirements, {sum(bool(row.get('tests')) for row in rows)} with tests, "
          f"{sum(bool(row.get('gap')) for row in rows)} of these with a gap, "
          f"{sum(bool(row.get('reason')) for row in rows)} excused")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

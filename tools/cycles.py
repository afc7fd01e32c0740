#!/usr/bin/env python3
"""Import cycles between the files of each crate under sdk/; exits with 1 if there is one. An edge is a `use`, or a path
written out, from a file to the one that defines what it names; re-exports are followed, tests left out. A module and
its own submodules may use each other."""
import pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"', re.S)
START = {"crate": lambda at: (), "super": lambda at: at[:-1], "self": lambda at: at}

def expand(tree, prefix=()):
    """The paths in a use tree, each with the name that it brings in."""
    head, brace, rest = tree.strip().partition("{")
    path = prefix + tuple(part.strip() for part in head.split(" as ")[0].split("::") if part.strip())
    if not brace:
        return [(path[:-1], path[-2]) if path[-1] == "self" and prefix else (path, re.split(r"::| as ", head)[-1].strip())]
    depth, parts = 0, [""]
    for char in rest.rstrip()[:-1]:
        depth += (char == "{") - (char == "}")
        parts = parts + [""] if char == "," and not depth else parts[:-1] + [parts[-1] + char]
    return [found for part in parts if part.strip() for found in expand(part, path)]

def resolve(modules, at, path, depth=0):
    """The module that defines the last name of `path`, as seen from `at`; None if it is outside the crate."""
    names = list(path)
    if names[0] not in START and at + (names[0],) not in modules:
        return None
    while names and names[0] in START:
        at = START[names.pop(0)](at)
    while names and at + (names[0],) in modules:
        at += (names.pop(0),)
    reexport = modules[at][1].get(names[0]) if names and at in modules and depth < 9 else None
    return (resolve(modules, at, reexport, depth + 1) if reexport else None) or at

def circles(edges):
    """The sets of nodes that reach each other."""
    reach = {node: set(targets) for node, targets in edges.items()}
    for middle in edges:
        reach = {node: seen | reach[middle] if middle in seen else seen for node, seen in reach.items()}
    return {frozenset(other for other in reach[node] if node in reach[other]) for node in edges if node in reach[node]}

def crate_circles(src):
    modules, siblings, whole = {}, {}, {}
    for file in src.rglob("*.rs"):
        module = tuple(part for part in file.relative_to(src).with_suffix("").parts if part not in ("mod", "lib"))
        if "tests" not in module:
            text = NOISE.sub("", file.read_text()).split("#[cfg(test)]\nmod tests {")[0]
            uses = [found for tree in re.findall(r"\buse\s+([^;]+);", text) for found in expand(tree)]
            paths = re.findall(r"\b(?:crate|super|self)(?:::\w+)+", text)
            modules[module] = file, {name: path for path, name in uses}, [path for path, _ in uses], paths
    apart = lambda a, b: a[: len(b)] != b and b[: len(a)] != a
    for module, (_, _, uses, paths) in modules.items():
        whole[module] = {resolve(modules, module, p) for p in uses + [tuple(p.split("::")) for p in paths]} & set(modules) - {(), module}
        siblings[module] = {target for target in whole[module] if apart(target, module)}
    mixed = {c for c in circles({m: t for m, t in whole.items() if m}) if not any(all(b[: len(a)] == a for b in c) for a in c)}
    return [sorted(str(modules[m][0].relative_to(ROOT)) for m in c) for c in circles(siblings) | mixed]

found = [circle for src in sorted(ROOT.glob("sdk/*/src")) for circle in crate_circles(src)]
print("\n".join("import cycle: " + " <-> ".join(circle) for circle in found) or "no import cycles")
sys.exit(bool(found))

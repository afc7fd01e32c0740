#!/usr/bin/env python3
"""No dependency may ask for a newer Rust than the workspace's `rust-version`; exits with 1 if one does. It reads the
packages that Cargo.lock names for this machine, dev-dependencies too. A package that states no version is not judged:
clippy's `incompatible_msrv` holds our own code, and `just nightly` builds with that Rust."""
import json, subprocess, sys

def version(text):
    return tuple(int(part) for part in (text.split("-")[0] + ".0.0").split(".")[:3])

host = next(line.split()[1] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host:"))
command = ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", host]
metadata = json.loads(subprocess.check_output(command))
used = {node["id"] for node in metadata["resolve"]["nodes"]}
packages = [package for package in metadata["packages"] if package["id"] in used]
ours = [package["rust_version"] for package in packages if package["source"] is None]
if None in ours or len(set(ours)) != 1:
    sys.exit(f"msrv: the members of the workspace state {set(ours)}")
newer = [package for package in packages if version(package["rust_version"] or "0") > version(ours[0])]
for package in newer:
    print(f"msrv: {package['name']} {package['version']} asks for Rust {package['rust_version']}, more than {ours[0]}")
if not newer:
    print(f"msrv: none of {len(packages)} packages asks for more than Rust {ours[0]}")
sys.exit(bool(newer))

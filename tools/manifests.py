#!/usr/bin/env python3
"""Checks the Kubernetes manifests of contrib/kubernetes/.

    python3 tools/manifests.py BOWLINE

Each object against the schemas of Kubernetes, strictly (an unknown field is an error), with PyPI `kubernetes-validate`, for the
oldest version that they are meant for and for the newest that it has. Then each container that runs `bowline`: with its arguments,
its ConfigMaps, and keys in the place of its Secrets, it must pass `--check`. Ends with 1 if something is wrong.
"""
import pathlib, subprocess, sys, tempfile

import kubernetes_validate, yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
OLDEST = "1.30"


def main(bowline):
    files = sorted((ROOT / "contrib/kubernetes").glob("*.yaml"))
    wrong = [f"{file.name}: {why}" for file in files for why in check(bowline, list(yaml.safe_load_all(file.read_text())))]
    for line in wrong:
        print(f"manifests: {line}", file=sys.stderr)
    print(f"{len(files)} files, {len(wrong)} errors")
    return 1 if wrong or not files else 0


def check(bowline, objects):
    for each in objects:
        for version in OLDEST, kubernetes_validate.latest_version():
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{each['kind']} {each['metadata']['name']}, Kubernetes {version}: {error.message}"
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    for each in objects:
        pod = each.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("initContainers", []) + pod.get("containers", []):
            if container.get("command") == ["bowline"]:
                yield from run(bowline, container, pod["volumes"], maps)


def run(bowline, container, volumes, maps):
    """What `bowline` says of its configuration, with the container's files in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([bowline, "pki", "init", folder / "pki"], check=True, stdout=subprocess.DEVNULL)
        pki = {name: (folder / "pki" / file).read_text()
               for name, file in {"tls.crt": "server.pem", "tls.key": "server.key", "ca.crt": "ca.pem"}.items()}
        volumes = {volume["name"]: volume for volume in volumes}
        places = {}
        for mount in container["volumeMounts"]:
            volume, place = volumes[mount["name"]], folder / mount["name"]
            place.mkdir()
            places[mount["mountPath"]] = str(place)
            content = maps[volume["configMap"]["name"]] if "configMap" in volume else pki if "secret" in volume else {}
            for name, text in content.items():
                (place / name).write_text(text)
                (place / name).chmod(0o640)
        for file in folder.rglob("*.toml"):
            file.write_text(moved(file.read_text(), places))
        arguments = [moved(argument, places) for argument in container["args"]]
        checked = subprocess.run([bowline, *arguments, "--check"], stderr=subprocess.PIPE, text=True, timeout=60)
        if checked.returncode:
            yield f"container {container['name']}: {checked.stderr.strip()}"


def moved(text, places):
    for inside, outside in places.items():
        text = text.replace(inside + "/", outside + "/")
    return text


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

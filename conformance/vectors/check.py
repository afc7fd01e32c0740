#!/usr/bin/env python3
"""Checks the test vectors with an implementation that shares nothing with the Rust one.

    pip install cryptography jsonschema
    python3 conformance/vectors/check.py            # checks
    python3 conformance/vectors/check.py --sizes    # how long the proofs are

Written from the wire profile (PR, RS): every accepted proof must pass all checks, every refused one must be
refused by the check that it names. The same for exporter values, thumbprints, token hashes, targets and
confirmations. Exits with 1 if anything differs.
"""

import base64
import hashlib
import hmac
import json
import re
import sys
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from jsonschema import Draft202012Validator


HERE = Path(__file__).parent
ALGORITHMS = ["eddsa", "es256", "es384", "ps256", "rs256"]  # PR-2


class Refused(Exception):
    """A proof was refused; the argument is the reason."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


def verify(proof, vectors, certificate):
    """RS-5..RS-9 less the memory of jti. Returns header, claims and whether the proof is reusable."""
    header, claims = authenticated(proof, certificate)
    ekm = base64url(bytes.fromhex(vectors["exporter_hex"]))
    ath = base64url(hashlib.sha256(vectors["access_token"].encode("ascii")).digest())
    require(claims["ekm"] == ekm, "exporter")
    require(claims["ath"] == ath, "token_hash")

    per_request = [name for name in ("jti", "htm", "htu") if name in claims]
    now = vectors["now"]
    oldest = now if per_request else min(now, vectors["handshake_at"])
    iat = claims["iat"]
    require(isinstance(iat, int) and oldest - 300 <= iat <= now + 60, "issued_at")

    request = vectors["request"]
    require(claims.get("htm", request["method"]) == request["method"], "method")
    if "htu" in claims:
        named = {request["path"], *(origin + request["path"] for origin in vectors["origins"])}
        require(normal_target(claims["htu"]) in named, "target_uri")
    require(1 <= len(claims.get("jti", "j").encode()) <= 256, "proof_syntax")
    return header, claims, not per_request


def authenticated(proof, certificate):
    """RS-5 and PR-9: the header and the claims, once the signature is known to be good."""
    require(len(proof) <= 8192 and proof.count(".") == 2, "proof_syntax")
    protected, payload, encoded_signature = proof.split(".")
    header = json_object(protected)
    require("crit" not in header, "proof_syntax")
    require(header.get("typ") == "tls-binding-proof+jwt", "proof_type")
    key = certificate.public_key()
    require(header.get("alg") in algorithms(key), "proof_algorithm")
    require(header.get("x5t#S256") == thumbprint(certificate), "proof_thumbprint")
    signature = from_base64url(encoded_signature)
    try:
        check_signature(key, header["alg"], signature, f"{protected}.{payload}".encode("ascii"))
    except InvalidSignature:
        raise Refused("proof_signature") from None

    claims = json_object(payload)
    texts = ["ath", "ekm", *(name for name in ("jti", "htm", "htu") if name in claims)]
    require(all(isinstance(claims.get(name), str) for name in texts), "proof_syntax")
    iat = claims.get("iat")
    require(isinstance(iat, (int, float)) and not isinstance(iat, bool), "proof_syntax")
    return header, claims


def algorithms(key):
    """PR-2."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": ["ES256"], "secp384r1": ["ES384"]}[key.curve.name]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ["EdDSA", "Ed25519"]
    assert isinstance(key, rsa.RSAPublicKey)
    if key.key_size < 2048:
        return []
    return ["PS256", "RS256"]


def check_signature(key, algorithm, signature, message):
    sha256 = hashes.SHA256()
    if algorithm in ("ES256", "ES384"):
        width, digest = {"ES256": (32, sha256), "ES384": (48, hashes.SHA384())}[algorithm]
        if len(signature) != 2 * width:
            raise InvalidSignature
        r, s = (int.from_bytes(part, "big") for part in (signature[:width], signature[width:]))
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
    elif algorithm == "PS256":
        key.verify(signature, message, padding.PSS(padding.MGF1(sha256), 32), sha256)
    elif algorithm == "RS256":
        key.verify(signature, message, padding.PKCS1v15(), sha256)
    else:
        key.verify(signature, message)


def thumbprint(certificate):
    """PR-3."""
    return base64url(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())


def normal_target(htu):
    """PR-7, as far as the vectors go. None for what names nothing."""
    parts = urlsplit(htu)
    bare = not parts.scheme and not parts.netloc and htu.startswith("/")
    absolute = parts.scheme in ("https", "http") and parts.hostname and "@" not in parts.netloc
    if "?" in htu or "#" in htu or not (bare or absolute):
        return None
    segments = []
    for segment in parts.path.split("/")[1:]:
        segment = quote(unquote_to_bytes(segment), safe="-._~!$&'()*+,;=:@")  # An escaped "/" stays escaped.
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    path = "/" + "/".join(segments)
    if not parts.scheme:
        return path
    default = {"https": 443, "http": 80}[parts.scheme]
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}{path}"


def json_object(encoded):
    def once(pairs):
        require(len(dict(pairs)) == len(pairs), "proof_syntax")
        return dict(pairs)

    try:
        found = json.loads(from_base64url(encoded), object_pairs_hook=once)
    except ValueError:
        raise Refused("proof_syntax") from None
    require(isinstance(found, dict), "proof_syntax")
    return found


def base64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_base64url(text):
    require(re.fullmatch(r"[A-Za-z0-9_-]*", text), "proof_syntax")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    require(base64url(raw) == text, "proof_syntax")
    return raw


def check_file(path):
    """Yields what is wrong with one file."""
    vectors = json.loads(path.read_text())
    certificate = load_pem_x509_certificate(vectors["certificate_pem"].encode())
    key = load_pem_private_key(vectors["private_key_pem"].encode(), None)
    if key.public_key() != certificate.public_key():
        yield "the private key does not fit the certificate"
    if thumbprint(certificate) != vectors["thumbprint"]:
        yield "thumbprint"
    for vector in vectors["accepted"]:
        stated = vector["header"], vector["claims"], vector["reusable"]
        try:
            if verify(vector["proof"], vectors, certificate) != stated:
                yield f"{vector['name']}: says something else than stated"
        except Refused as refusal:
            yield f"{vector['name']}: refused by {refusal}"
    for vector in vectors["refused"]:
        try:
            verify(vector["proof"], vectors, certificate)
            yield f"{vector['name']}: accepted"
        except Refused as refusal:
            if str(refusal) != vector["reason"]:
                yield f"{vector['name']}: refused by {refusal} instead of {vector['reason']}"
        if vector["error"] != "invalid_proof":  # RS-10
            yield f"{vector['name']}: {vector['error']}"
    print(f"{path.name}: {len(vectors['accepted'])} accepted, {len(vectors['refused'])} refused")


# The other vectors ----------------------------------------------------------------------------------------------------


def exporter(vector, label, context):
    """EX-1 and EX-2, from the secrets of a connection. `context` is None for an absent one."""
    def mac(key, message):
        return hmac.new(key, message, vector["hash"]).digest()

    if vector["tls"] == "1.3":
        def expand_label(secret, name, digest):
            size = 32 if name == b"exporter" else len(digest)
            name = b"tls13 " + name
            info = size.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(digest)]) + digest
            return mac(secret, info + b"\x01")[:size]

        derived = expand_label(
            bytes.fromhex(vector["exporter_master_secret_hex"]), label, hashlib.new(vector["hash"]).digest()
        )
        return expand_label(derived, b"exporter", hashlib.new(vector["hash"], context or b"").digest())
    secret = bytes.fromhex(vector["master_secret_hex"])
    seed = label + bytes.fromhex(vector["client_random_hex"] + vector["server_random_hex"])
    seed += b"" if context is None else len(context).to_bytes(2, "big") + context
    return mac(secret, mac(secret, seed) + seed)[:32]


def check_exporter(vectors):
    label = vectors["label"].encode("ascii")
    for vector in vectors["vectors"]:
        if exporter(vector, label, b"").hex() != vector["exporter_hex"]:
            yield f"{vector['name']}: another value"
        wrong = vector.get("wrong_hex_of_an_absent_context")
        if wrong is not None and exporter(vector, label, None).hex() != wrong:
            yield f"{vector['name']}: another value of an absent context"
        if wrong == vector["exporter_hex"]:
            yield f"{vector['name']}: an absent context is not told from an empty one"


def check_values(vectors):
    for vector in vectors["thumbprints"]:
        if thumbprint(load_pem_x509_certificate(vector["certificate_pem"].encode())) != vector["x5t#S256"]:
            yield f"{vector['name']}: another thumbprint"
    for vector in vectors["token_hashes"]:
        if base64url(hashlib.sha256(vector["access_token"].encode("ascii")).digest()) != vector["ath"]:
            yield f"{vector['name']}: another ath"


def check_targets(vectors):
    for vector in vectors["vectors"]:
        path = normal_target(vector["path"].split("?")[0])
        named = {normal_target(origin + path) for origin in vectors["origins"]}
        try:
            target = normal_target(vector["htu"])
        except (ValueError, KeyError):
            target = None
        for bare, expected in (
            (True, vector["matches"]),
            (False, vector["matches_where_bare_paths_are_refused"]),
        ):
            if (target in named or (bare and target == path)) != expected:
                yield f"{vector['name']}: not as stated with bare paths {'accepted' if bare else 'refused'}"


def check_confirmations(vectors):
    for vector in vectors["vectors"]:
        says, certificate = confirmation(vector["claims_json"])
        if says != vector["says"]:
            yield f"{vector['name']}: says {says}"
        fits = certificate in (None, vectors["connection_x5t#S256"])
        for policy, expected in vector["verdicts"].items():
            found = verdict(policy, says, fits, vector["session_binding_proof"], vector["dpop_proof"])
            if found != expected:
                yield f"{vector['name']}: {policy} gives {found}"


def confirmation(claims):
    """TK-0, TK-1, TK-2, TK-5: what the claims say, and the thumbprint in them."""
    try:
        claims = json.loads(claims, object_pairs_hook=members_once)
        if "cnf" not in claims:
            return "none", None
        cnf = claims["cnf"]
        known = {name: cnf[name] for name in ("x5t#S256", "tls_exp", "jkt") if name in cnf}
        if not isinstance(cnf, dict) or not all(isinstance(value, str) for value in known.values()):
            return "malformed", None
        if any(len(from_base64url(known[name])) != 32 for name in ("x5t#S256", "jkt") if name in known):
            return "malformed", None
    except (ValueError, TypeError, Refused):
        return "malformed", None
    certificate = known.get("x5t#S256")
    if "tls_exp" in known and "jkt" in known:
        return "conflict", certificate
    if "tls_exp" in known and known["tls_exp"] != "EXPORTER-oauth-tls-session-bound":
        return "unknown_label", certificate
    if "tls_exp" in known:
        return "session" if certificate else "no_certificate", certificate
    if "jkt" in known:
        return "dpop", certificate
    return "certificate" if certificate else "unknown", certificate


def members_once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member is there twice")
    return dict(pairs)


def verdict(policy, says, fits, proof, dpop):
    """RS-3, RS-4 and the table of RS-13, for a token that is valid otherwise and proofs that hold."""
    if says not in ("none", "session", "certificate", "dpop") or not fits:
        return "invalid_token"
    strict = policy in ("RequireProof", "RequireSession")
    if says == "session":
        return "session" if proof else "use_session_binding"
    if policy == "RequireSession":
        return "invalid_token"
    if says == "certificate":
        if proof:
            return "session"
        return "use_session_binding" if strict else "certificate"
    if says == "dpop":
        return "dpop" if dpop and not strict else "invalid_token"
    return "bearer" if policy == "Follow" else "invalid_token"


def check_hostile(vectors):
    for vector in vectors["vectors"]:
        certificate = load_pem_x509_certificate(vector["certificate_pem"].encode())
        try:
            verify(vector["proof"], vectors, certificate)
            yield f"{vector['name']}: accepted"
        except Refused as refusal:
            if str(refusal) != vector["reason"]:
                yield f"{vector['name']}: refused by {refusal} instead of {vector['reason']}"


TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# The value ends at a separator; unquoted ones may have characters that no token has, such as those of a URL.
PARAMETER = re.compile(rf'({TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t,;"]+))(?=[ \t,;]|$)', re.S)
SCHEME = re.compile(rf"({TOKEN})(?=[ \t,;]|$)")
TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$))")
SEPARATORS = re.compile(r"[ \t,;]*")
RUBBISH = re.compile(r'"(?:[^"\\]|\\.)*"(?=[ \t,;]|$)|[^,]+', re.S)


def challenges(lines):
    """RFC 9110 §11.6.1 over all field lines, forgiving: what cannot be read ends its challenge and hides no other one."""
    found, current = [], None
    for line in lines:
        at, item = 0, True
        while True:
            separators = SEPARATORS.match(line, at)
            item, at = item or "," in separators[0], separators.end()
            if at == len(line):
                break
            if match := PARAMETER.match(line, at):
                value = match[3] if match[2] is None else re.sub(r"\\(.)", r"\1", match[2], flags=re.S)
                if current is not None:
                    current.append([match[1], value.encode("latin-1").decode("utf-8", "replace")])
                at = match.end()
            elif (match := SCHEME.match(line, at)) and (
                item or PARAMETER.match(line, SEPARATORS.match(line, match.end()).end())
            ):
                current = []
                found.append([match[1], current])
                token68 = TOKEN68.match(line, match.end())
                at = (token68 or match).end()
            else:
                current = None
                at = RUBBISH.match(line, at).end()
            item = False
    return found


def check_challenges(vectors):
    for vector in vectors:
        found = challenges(vector["lines"])
        if found != vector["challenges"]:
            yield f"{vector['about']}: {found}"


OTHERS = {
    "exporter.json": check_exporter,
    "values.json": check_values,
    "targets.json": check_targets,
    "confirmations.json": check_confirmations,
    "hostile.json": check_hostile,
    "challenges.json": check_challenges,
}


def check_other(name, check):
    """Yields what is wrong with one file that is none of an algorithm's."""
    vectors = json.loads((HERE / name).read_text())
    yield from check(vectors)
    lists = [vectors] if isinstance(vectors, list) else [
        value for key, value in vectors.items() if isinstance(value, list) and key != "origins"
    ]
    count = sum(map(len, lists))
    print(f"{name}: {count} vectors")


def check_schema():
    """Each file has the form that schema.json gives."""
    schema = json.loads((HERE / "schema.json").read_text())
    for path in sorted(HERE.glob("*.json")):
        if path.name == "schema.json":
            continue
        kind = "algorithm" if path.stem in ALGORITHMS else path.stem
        found = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
        for error in Draft202012Validator(found).iter_errors(json.loads(path.read_text())):
            yield f"{path.name}: {error.json_path}: {error.message[:200]}"


def sizes():
    """Prints how many bytes the proofs of each algorithm have."""
    print("bytes of a proof, in the field value: reusable, with per-request claims")
    for algorithm in ALGORITHMS:
        accepted = json.loads((HERE / f"{algorithm}.json").read_text())["accepted"]
        length = {vector["name"]: len(vector["proof"]) for vector in accepted}
        print(f"{algorithm}: {length['reusable']}, {length['per_request']}")


def main():
    if "--sizes" in sys.argv[1:]:
        sizes()
        return 0
    # By name: a missing file must fail.
    files = [HERE / f"{algorithm}.json" for algorithm in ALGORITHMS]
    wrong = [f"{path.name}: {problem}" for path in files for problem in check_file(path)]
    wrong += [f"{name}: {problem}" for name, check in OTHERS.items() for problem in check_other(name, check)]
    wrong += check_schema()
    print("\n".join(wrong) or "all as stated")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks the test vectors with an implementation that shares nothing with the Rust one.

    pip install cryptography
    python3 conformance/vectors/check.py

Written from the wire profile (PR, RS): every accepted proof must pass all checks, every refused one must be
refused by the check that it names. Exits with 1 if anything differs.
"""

import base64
import hashlib
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
    assert isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048
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
    if "?" in htu or "#" in htu:
        return None
    segments = []
    for segment in parts.path.split("/")[1:]:
        segment = quote(unquote_to_bytes(segment), safe="-._~!$&'()*+,;=:@")
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
    print(f"{path.name}: {len(vectors['accepted'])} accepted, {len(vectors['refused'])} refused")


def main():
    # By name: the folder also holds vectors that are no proofs, and a missing file must fail.
    files = [Path(__file__).parent / f"{algorithm}.json" for algorithm in ALGORITHMS]
    wrong = [f"{path.name}: {problem}" for path in files for problem in check_file(path)]
    print("\n".join(wrong) or "all as stated")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

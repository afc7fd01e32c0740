#!/usr/bin/env python3
"""Writes the vectors that need no private key of this project's: exporter.json, values.json, targets.json,
confirmations.json and hostile.json. Deterministic: the same files come out each time.

    pip install cryptography
    python3 conformance/vectors/generate.py            # write
    python3 conformance/vectors/generate.py --check    # 1 if a file differs from what would be written

What is expected is written down here from the wire profile; only hashes, MACs and signatures are computed. The proofs of
each algorithm come from sdk/proof/tests/it/vectors/generate.rs.
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

HERE = Path(__file__).parent
LABEL = "EXPORTER-oauth-tls-session-bound"
ALGORITHMS = ["es256", "es384", "eddsa", "ps256", "rs256"]


def base64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


# exporter.json (EX-1, EX-2) ------------------------------------------------------------------------------------------


def expand_label(hash_name, secret, label, context, length):
    """HKDF-Expand-Label of RFC 8446 §7.1."""
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(context)]) + context
    block, out, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(secret, block + info + bytes([counter]), hash_name).digest()
        out += block
        counter += 1
    return out[:length]


def exporter_13(hash_name, secret, context):
    """RFC 8446 §7.5. An absent context and an empty one give the same value."""
    size = hashlib.new(hash_name).digest_size
    empty = hashlib.new(hash_name, b"").digest()
    derived = expand_label(hash_name, secret, LABEL.encode(), empty, size)
    return expand_label(hash_name, derived, b"exporter", hashlib.new(hash_name, context or b"").digest(), 32)


def exporter_12(hash_name, master_secret, client_random, server_random, context):
    """RFC 5705 §4. The seed of an absent context has no length."""
    seed = LABEL.encode() + client_random + server_random
    if context is not None:
        seed += len(context).to_bytes(2, "big") + context
    a, out = seed, b""
    while len(out) < 32:
        a = hmac.new(master_secret, a, hash_name).digest()
        out += hmac.new(master_secret, a + seed, hash_name).digest()
    return out[:32]


def exporters():
    vectors = []
    for hash_name in ("sha256", "sha384"):
        size = hashlib.new(hash_name).digest_size
        secret = bytes(range(0x40, 0x40 + size))
        vectors.append({
            "name": f"tls13_{hash_name}",
            "tls": "1.3",
            "hash": hash_name,
            "exporter_master_secret_hex": secret.hex(),
            "exporter_hex": exporter_13(hash_name, secret, b"").hex(),
        })
        master, client, server = bytes(range(48)), bytes(range(0x80, 0xA0)), bytes(range(0xC0, 0xE0))
        vectors.append({
            "name": f"tls12_{hash_name}",
            "tls": "1.2",
            "hash": hash_name,
            "master_secret_hex": master.hex(),
            "client_random_hex": client.hex(),
            "server_random_hex": server.hex(),
            "exporter_hex": exporter_12(hash_name, master, client, server, b"").hex(),
            "wrong_hex_of_an_absent_context": exporter_12(hash_name, master, client, server, None).hex(),
        })
    return {
        "about": "Exporter values from given secrets (EX-1, EX-2): context present and empty, 32 bytes; see README.md.",
        "label": LABEL,
        "length": 32,
        "vectors": vectors,
    }


# values.json (PR-3, PR-5) --------------------------------------------------------------------------------------------


def values():
    thumbprints = []
    for algorithm in ALGORITHMS:
        pem = json.loads((HERE / f"{algorithm}.json").read_text())["certificate_pem"]
        der = load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
        thumbprints.append({
            "name": algorithm,
            "certificate_pem": pem,
            "x5t#S256": base64url(hashlib.sha256(der).digest()),
        })
    tokens = {
        "opaque": "kR7q3.vector-access_token~1+/==",
        "one_character": "a",
        "jwt": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.AA",
        "padding_counts": "YQ==",
    }
    return {
        "about": "Thumbprints (PR-3) and token hashes (PR-5): SHA-256, base64url without padding.",
        "thumbprints": thumbprints,
        "token_hashes": [
            {"name": name, "access_token": token, "ath": base64url(hashlib.sha256(token.encode("ascii")).digest())}
            for name, token in tokens.items()
        ],
    }


# targets.json (PR-7) -------------------------------------------------------------------------------------------------


def targets():
    same, other = True, False
    bare_path = "bare_path"  # The draft's example; by default it is accepted, and configuration can refuse it.
    origin = "https://mcp.example.com"
    pairs = [
        ("as_minted", f"{origin}/v1/mcp", "/v1/mcp", same),
        ("scheme_and_host_in_upper_case", "HTTPS://MCP.Example.COM/v1/mcp", "/v1/mcp", same),
        ("default_port", f"{origin}:443/v1/mcp", "/v1/mcp", same),
        ("dot_segments", f"{origin}/v1/x/../mcp", "/v1/mcp", same),
        ("escaped_dot_segments", f"{origin}/v1/x/%2e%2E/mcp", "/v1/mcp", same),
        ("escaped_unreserved_characters", f"{origin}/v1/%6d%63p", "/v1/mcp", same),
        ("escape_in_lower_case", f"{origin}/a%2fb", "/a%2Fb", same),
        ("query_of_the_request_does_not_count", f"{origin}/v1/mcp", "/v1/mcp?x=1", same),
        ("bare_path", "/v1/mcp", "/v1/mcp", bare_path),
        ("second_origin", "https://other.example.com:8443/v1/mcp", "/v1/mcp", same),
        ("another_origin", "https://evil.example.com/v1/mcp", "/v1/mcp", other),
        ("another_port", f"{origin}:8443/v1/mcp", "/v1/mcp", other),
        ("another_scheme", "http://mcp.example.com/v1/mcp", "/v1/mcp", other),
        ("another_path", f"{origin}/v1/other", "/v1/mcp", other),
        ("path_in_another_case", f"{origin}/V1/mcp", "/v1/mcp", other),
        ("trailing_slash", f"{origin}/v1/mcp/", "/v1/mcp", other),
        ("doubled_slash", f"{origin}/v1//mcp", "/v1/mcp", other),
        ("escaped_slash", f"{origin}/v1%2Fmcp", "/v1/mcp", other),
        ("query", f"{origin}/v1/mcp?x=1", "/v1/mcp?x=1", other),
        ("fragment", f"{origin}/v1/mcp#x", "/v1/mcp", other),
        ("another_bare_path", "/v1/other", "/v1/mcp", other),
        ("bare_path_with_a_query", "/v1/mcp?x=1", "/v1/mcp?x=1", other),
        ("relative_path", "v1/mcp", "/v1/mcp", other),
        ("authority_without_scheme", "//mcp.example.com/v1/mcp", "/v1/mcp", other),
        ("user_information", "https://user@mcp.example.com/v1/mcp", "/v1/mcp", other),
        ("empty", "", "/v1/mcp", other),
    ]
    return {
        "about": "htu of a proof against the path of a request, at a server with these external origins (PR-7).",
        "origins": [origin, "https://other.example.com:8443"],
        "vectors": [
            {
                "name": name,
                "htu": htu,
                "path": path,
                "matches": expected is not other,
                "matches_where_bare_paths_are_refused": expected is same,
            }
            for name, htu, path, expected in pairs
        ],
    }


# confirmations.json (TK-0..TK-2, TK-5, RS-3, RS-13) ------------------------------------------------------------------

POLICIES = ["Follow", "RequireBound", "RequireProof", "RequireSession"]


def confirmations():
    own = base64url(hashlib.sha256(b"the client's certificate").digest())
    other = base64url(hashlib.sha256(b"another certificate").digest())
    jkt = base64url(hashlib.sha256(b"a DPoP key").digest())
    x5t, exp = f'"x5t#S256":"{own}"', f'"tls_exp":"{LABEL}"'
    token, ask = "invalid_token", "use_session_binding"
    refused = [token] * 4
    # name, claims, what the cnf says, proof, dpop proof, verdict of each policy
    rows = [
        ("session, proof", f'{{"cnf":{{{x5t},{exp}}}}}', "session", True, False, ["session"] * 4),
        ("session, no proof", f'{{"cnf":{{{x5t},{exp}}}}}', "session", False, False, [ask] * 4),
        ("certificate, proof", f'{{"cnf":{{{x5t}}}}}', "certificate", True, False, ["session", "session", "session", token]),
        ("certificate, no proof", f'{{"cnf":{{{x5t}}}}}', "certificate", False, False, ["certificate", "certificate", ask, token]),
        ("dpop", f'{{"cnf":{{"jkt":"{jkt}"}}}}', "dpop", False, True, ["dpop", "dpop", token, token]),
        ("dpop and certificate", f'{{"cnf":{{{x5t},"jkt":"{jkt}"}}}}', "dpop", False, True, ["dpop", "dpop", token, token]),
        ("dpop and another certificate", f'{{"cnf":{{"x5t#S256":"{other}","jkt":"{jkt}"}}}}', "dpop", False, True, refused),
        ("bearer", '{"sub":"a"}', "none", False, False, ["bearer", token, token, token]),
        ("bearer, proof: anybody can make one", '{"sub":"a"}', "none", True, False, ["bearer", token, token, token]),
        ("an unknown member beside known ones", f'{{"cnf":{{{x5t},{exp},"future":1}}}}', "session", True, False, ["session"] * 4),
        ("only an unknown member", '{"cnf":{"future":"x"}}', "unknown", True, False, refused),
        ("an empty cnf", '{"cnf":{}}', "unknown", True, False, refused),
        ("another certificate, proof", f'{{"cnf":{{"x5t#S256":"{other}",{exp}}}}}', "session", True, False, refused),
        ("another certificate without tls_exp", f'{{"cnf":{{"x5t#S256":"{other}"}}}}', "certificate", False, False, refused),
        ("tls_exp and jkt", f'{{"cnf":{{{x5t},{exp},"jkt":"{jkt}"}}}}', "conflict", True, False, refused),
        ("tls_exp without x5t#S256", f'{{"cnf":{{{exp}}}}}', "no_certificate", True, False, refused),
        ("another label", f'{{"cnf":{{{x5t},"tls_exp":"EXPORTER-other"}}}}', "unknown_label", True, False, refused),
        ("tls_exp is a boolean", f'{{"cnf":{{{x5t},"tls_exp":true}}}}', "malformed", True, False, refused),
        ("tls_exp is null", f'{{"cnf":{{{x5t},"tls_exp":null}}}}', "malformed", True, False, refused),
        ("cnf is null", '{"cnf":null}', "malformed", True, False, refused),
        ("cnf is an array", '{"cnf":[]}', "malformed", True, False, refused),
        ("cnf is text", f'{{"cnf":"{own}"}}', "malformed", True, False, refused),
        ("cnf twice", f'{{"cnf":{{{x5t},{exp}}},"cnf":{{}}}}', "malformed", True, False, refused),
        ("tls_exp twice", f'{{"cnf":{{{x5t},{exp},{exp}}}}}', "malformed", True, False, refused),
        ("x5t#S256 with padding", f'{{"cnf":{{"x5t#S256":"{own}=",{exp}}}}}', "malformed", True, False, refused),
        ("x5t#S256 of 31 bytes", f'{{"cnf":{{"x5t#S256":"{base64url(bytes(31))}",{exp}}}}}', "malformed", True, False, refused),
        ("x5t#S256 in hexadecimal", f'{{"cnf":{{"x5t#S256":"{"ab" * 32}",{exp}}}}}', "malformed", True, False, refused),
        ("x5t#S256 is a number", f'{{"cnf":{{"x5t#S256":1,{exp}}}}}', "malformed", True, False, refused),
        ("jkt is an object", '{"cnf":{"jkt":{}}}', "malformed", False, True, refused),
    ]
    return {
        "about": "cnf of a valid token: what it says (TK), and the verdict of each policy (RS-13). See README.md.",
        "connection_x5t#S256": own,
        "vectors": [
            {
                "name": name,
                "claims_json": claims,
                "says": says,
                "session_binding_proof": proof,
                "dpop_proof": dpop,
                "verdicts": dict(zip(POLICIES, verdicts, strict=True)),
            }
            for name, claims, says, proof, dpop, verdicts in rows
        ],
    }


# hostile.json (PR-2) -------------------------------------------------------------------------------------------------

# An RSA key of 1024 bits, made once for this purpose. For tests only.
RSA_1024 = (HERE / "rsa1024.pem").read_text()


def hostile():
    vectors = []
    for algorithm in ALGORITHMS:
        fixture = json.loads((HERE / f"{algorithm}.json").read_text())
        good = next(vector for vector in fixture["accepted"] if vector["name"] == "reusable")
        certificate = load_pem_x509_certificate(fixture["certificate_pem"].encode())
        spki = PublicFormat.SubjectPublicKeyInfo
        for form, encoding in (("pem", Encoding.PEM), ("der", Encoding.DER)):
            secret = certificate.public_key().public_bytes(encoding, spki)
            for alg, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
                mac = lambda text: hmac.new(secret, text, digest).digest()
                vectors.append({
                    "name": f"{alg.lower()}_with_the_{form}_of_the_public_key_{algorithm}",
                    "certificate_pem": fixture["certificate_pem"],
                    "proof": jws(good["header"] | {"alg": alg}, good["claims"], mac),
                    "check": "RS-5",
                    "reason": "proof_algorithm",
                    "error": "invalid_proof",
                })
    key = load_pem_private_key(RSA_1024.split("-----BEGIN CERTIFICATE")[0].encode(), None)
    certificate_pem = RSA_1024[RSA_1024.index("-----BEGIN CERTIFICATE"):]
    der = load_pem_x509_certificate(certificate_pem.encode()).public_bytes(Encoding.DER)
    sign = lambda text: key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    header = {"alg": "RS256", "typ": "tls-binding-proof+jwt", "x5t#S256": base64url(hashlib.sha256(der).digest())}
    vectors.append({
        "name": "rsa_1024",
        "certificate_pem": certificate_pem,
        "proof": jws(header, good["claims"], sign),
        "check": "RS-5",
        "reason": "proof_algorithm",
        "error": "invalid_proof",
    })
    names = ("access_token", "exporter_hex", "now", "handshake_at", "request", "origins")
    return {
        "about": "Proofs whose key or MAC PR-2 forbids; all else is right. See README.md.",
        **{name: fixture[name] for name in names},
        "vectors": vectors,
    }


def jws(header, claims, sign):
    text = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{text}.{base64url(sign(text.encode('ascii')))}"


FILES = {
    "exporter.json": exporters,
    "values.json": values,
    "targets.json": targets,
    "confirmations.json": confirmations,
    "hostile.json": hostile,
}


def main():
    differ = []
    for name, make in FILES.items():
        text = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        path = HERE / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differ.append(name)
    for name in differ:
        print(f"{name} is not what generate.py writes")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

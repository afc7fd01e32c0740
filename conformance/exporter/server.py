"""One TLS connection, served by OpenSSL: prints what it exports (EX-1, EX-2) and the proof that it is sent.

An independent derivation of the exporter value, for sdk/client/tests/it/exporter.rs. Needs pyOpenSSL.

    python3 server.py {TLSv1.2|TLSv1.3} CERT KEY CA

prints three lines: the port it listens on, the exporter value in hex, and the Session-Binding-Proof field's value.
"""

import socket
import sys

from OpenSSL import SSL

LABEL = b"EXPORTER-oauth-tls-session-bound"
VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
MAX_BYTES = 64 * 1024


def context(version, cert, key, ca):
    ctx = SSL.Context(SSL.TLS_SERVER_METHOD)
    ctx.set_min_proto_version(VERSIONS[version])
    ctx.set_max_proto_version(VERSIONS[version])
    ctx.use_certificate_chain_file(cert)
    ctx.use_privatekey_file(key)
    ctx.load_verify_locations(ca)
    ctx.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    ctx.set_alpn_select_callback(lambda _connection, offered: b"http/1.1")
    return ctx


def main(version, cert, key, ca):
    ctx = context(version, cert, key, ca)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        tcp, _ = listener.accept()
    connection = SSL.Connection(ctx, tcp)
    connection.set_accept_state()
    connection.do_handshake()
    assert connection.get_protocol_version_name() == version
    # A context that is present and empty: TLS 1.2 gives another value without one (RFC 5705, EX-2).
    print(connection.export_keying_material(LABEL, 32, b"").hex(), flush=True)
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_BYTES:
        head += connection.recv(4096)
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"session-binding-proof":
            print(value.strip().decode("ascii"), flush=True)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok:")
    connection.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

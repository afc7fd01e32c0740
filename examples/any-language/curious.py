"""A server that writes down what it is sent: one way in which a thief comes by a token with its proof.

It asks for the client's certificate and demands a proof, as any server may.
"""

import http.server
import pathlib
import ssl


class Curious(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        proof = self.headers["Session-Binding-Proof"]
        if proof:
            token = self.headers["Authorization"].removeprefix("Bearer ")
            pathlib.Path("stolen-token").write_text(token)
            pathlib.Path("stolen-proof").write_text(proof)
            self.send_response(200)
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Bearer error="use_session_binding"')
        self.send_header("Content-Length", "0")
        self.end_headers()


context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile="pki/ca.pem")
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("pki/server.pem", "pki/server.key")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8444), Curious)
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening at https://localhost:8444", flush=True)
server.serve_forever()

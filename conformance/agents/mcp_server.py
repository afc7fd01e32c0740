"""The server of ../mcp-peers on a loopback port of its own, for clients that know it as AUTHORITY.

    python3 mcp_server.py AUTHORITY

prints one line, the port, and ends when its standard input does.
"""

import os
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "mcp-peers"))

import uvicorn  # noqa: E402
from mcp.server.transport_security import TransportSecuritySettings  # noqa: E402
from server import server  # noqa: E402


def main(authority):
    app = server.streamable_http_app(transport_security=TransportSecuritySettings(allowed_hosts=[authority]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])

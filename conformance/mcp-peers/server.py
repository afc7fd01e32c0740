"""A server on the Python SDK (`mcp`) on a loopback port of its own, for sdk/mcp/tests/it/peers.rs and sdk/cli/tests/it/mcp.rs.

    python3 server.py {sse|streamable-http}

prints a line, the port, and ends when its standard input does. A call of `wait` prints two more: when it has begun, and when it
has been cancelled.
"""

import os
import socket
import sys
import threading

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("peer")


@server.tool()
def echo(message: str) -> str:
    """Says the same."""
    return message


@server.tool()
async def wait() -> str:
    """Answers never."""
    print("waiting", flush=True)
    try:
        await anyio.sleep_forever()
    finally:
        print("cancelled", flush=True)


def main(transport):
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])

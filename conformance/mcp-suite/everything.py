"""A server on the Python SDK with some of the tools, resources and prompts that the suite's server scenarios ask for.

    python3 everything.py

prints its port, and ends when its standard input does.
"""

import base64
import os
import socket
import sys
import threading

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

server = MCPServer("everything")


@server.tool()
def test_simple_text() -> str:
    """Says something."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> Image:
    """Shows something."""
    return Image(data=PIXEL, format="png")


@server.tool()
def test_error_handling() -> str:
    """Fails."""
    raise ValueError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_progress(context: Context) -> str:
    """Says how far it is."""
    for done in (0, 50, 100):
        await context.report_progress(done, 100)
    return "done"


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Some text."""
    return "This is the content of the static text resource."


@server.prompt()
def test_simple_prompt() -> str:
    """Asks something."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """Asks something about two things."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listener])

"""An MCP server on the Python SDK, on a Unix socket. It knows nothing of tokens: the ingress in front of it does."""

import uvicorn
from mcp.server.mcpserver import MCPServer

server = MCPServer("weather")


@server.tool()
def forecast(city: str) -> str:
    """Tells tomorrow's weather."""
    return f"{city}: rain"


if __name__ == "__main__":
    uvicorn.run(server.streamable_http_app(), uds="mcp.sock", log_level="warning")

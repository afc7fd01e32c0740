"""100 tool calls with PyPI `mcp`.

    python3 mcp_client.py {legacy|auto}
"""

import asyncio
import os
import platform
import sys
from importlib.metadata import version

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

CALLS = 100


async def main(mode):
    headers = {"Authorization": f"Bearer {os.environ['AGENT_TOKEN']}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
        transport = streamable_http_client(os.environ["AGENT_URL"] + "/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            for number in range(CALLS):
                answer = await client.call_tool("echo", {"message": f"ahoy {number}"})
                assert answer.content[0].text == f"ahoy {number}", answer
            revision = client.session.protocol_version
    print(f"PyPI mcp {version('mcp')}, {revision}, Python {platform.python_version()}")


asyncio.run(main(sys.argv[1]))

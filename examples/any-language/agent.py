"""An agent on the Python SDK, with a token from its environment. It knows nothing of certificates, proofs or proxies."""

import asyncio
import os
import sys

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url):
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        streamable_http_client(url, http_client=http) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        for city in ["Lisbon", "Bergen", "Quito"]:
            answer = await session.call_tool("forecast", {"city": city})
            print(answer.content[0].text)


asyncio.run(main(sys.argv[1]))

"""A signed card and 10 messages with PyPI `a2a-sdk`.

    python3 a2a_client.py {JSONRPC|HTTP+JSON|GRPC}

AGENT_CARD_KEY names the file with the public key of the card's signature.
"""

import asyncio
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import grpc
import httpx
from a2a.client import ClientCallContext, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import AgentCard, Message, Part, Role, SendMessageRequest
from a2a.utils.signing import InvalidSignaturesError, create_signature_verifier

CALLS = 10


def verify(card):
    key = Path(os.environ["AGENT_CARD_KEY"]).read_text()
    check = create_signature_verifier(lambda kid, jku: key, ["ES256"])
    check(card)
    # A card that anybody had touched would not pass.
    touched = AgentCard()
    touched.CopyFrom(card)
    touched.supported_interfaces[0].url += "/"
    try:
        check(touched)
    except InvalidSignaturesError:
        return
    raise AssertionError("the signature covers nothing")


async def main(binding):
    bearer = f"Bearer {os.environ['AGENT_TOKEN']}"
    async with httpx.AsyncClient(headers={"authorization": bearer}, timeout=30) as http:
        config = ClientConfig(
            httpx_client=http,
            grpc_channel_factory=lambda url: grpc.aio.secure_channel(url, grpc.ssl_channel_credentials()),
            supported_protocol_bindings=[binding],
        )
        client = await ClientFactory(config).create_from_url(os.environ["AGENT_URL"], signature_verifier=verify)
        context = ClientCallContext(service_parameters={"authorization": bearer})
        for number in range(CALLS):
            text = f"ahoy {number}"
            message = Message(message_id=str(number), role=Role.ROLE_USER, parts=[Part(text=text)])
            events = [event async for event in client.send_message(SendMessageRequest(message=message), context=context)]
            assert text in str(events), events
        await client.close()
    print(f"PyPI a2a-sdk {version('a2a-sdk')}, {binding}, Python {platform.python_version()}")


asyncio.run(main(sys.argv[1]))

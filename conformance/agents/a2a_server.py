"""The agent of ../a2a-peers with a signed card that names AUTHORITY for all three bindings.

    python3 a2a_server.py AUTHORITY KEY_FILE

writes the card's public key to KEY_FILE, prints one line, the ports of HTTP and of gRPC, and ends when its standard input does.
"""

import asyncio
import os
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "a2a-peers"))

import grpc  # noqa: E402
import uvicorn  # noqa: E402
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler  # noqa: E402
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes  # noqa: E402
from a2a.server.tasks import InMemoryTaskStore  # noqa: E402
from a2a.types import a2a_pb2_grpc  # noqa: E402
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface  # noqa: E402
from a2a.utils.signing import create_agent_card_signer  # noqa: E402
from agent import Echo, skill  # noqa: E402
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from starlette.applications import Starlette  # noqa: E402


def card(authority):
    def interface(url, binding):
        return AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0")

    return AgentCard(
        name="peer",
        description="An agent of bowline's tests: »signed«",
        version="1.0.0",
        supported_interfaces=[
            interface(f"https://{authority}/jsonrpc", "JSONRPC"),
            interface(f"https://{authority}/rest", "HTTP+JSON"),
            interface(f"{authority}:443", "GRPC"),
        ],
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill("echo", "Says the same")],
    )


def sign(card, key_file):
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    Path(key_file).write_bytes(public)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return create_agent_card_signer(private, {"alg": "ES256", "kid": "card", "typ": "JOSE"})(card)


async def main(authority, key_file):
    signed = sign(card(authority), key_file)
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=signed)
    listener = socket.create_server(("127.0.0.1", 0))
    server = grpc.aio.server()
    rpc = server.add_insecure_port("127.0.0.1:0")
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    await server.start()
    app = Starlette(
        routes=create_agent_card_routes(signed)
        + create_jsonrpc_routes(handler, "/jsonrpc")
        + create_rest_routes(handler, path_prefix="/rest")
    )
    print(listener.getsockname()[1], rpc, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

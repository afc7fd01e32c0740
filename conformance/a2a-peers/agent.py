"""An agent on the Python SDK (`a2a-sdk`) on loopback ports of its own, for sdk/a2a/tests/it/python.rs.

    python3 agent.py

prints one line, the ports of HTTP and of gRPC, and ends when its standard input does. JSON-RPC is at /jsonrpc, HTTP+JSON at
/rest. It does with a message what `bowline_testkit::a2a::Echo` does; and `pace N` is a task of N steps, each a status update and a
piece of the artifact, one after the other and not all at once.
"""

import asyncio
import os
import socket
import sys
import threading

import grpc
import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryPushNotificationConfigStore, InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2_grpc
from a2a.types.a2a_pb2 import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Artifact,
    Message,
    Part,
    Role,
    Task,
    TaskState,
    TaskStatus,
)
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.applications import Starlette


class Echo(AgentExecutor):
    async def execute(self, context, event_queue):
        run = Run(context, event_queue)
        text = "".join(part.text for part in context.message.parts)
        command, _, argument = text.partition(" ")
        if text == "hold":
            await run.working()
            await asyncio.Event().wait()
        elif command == "count" and argument.isdecimal():
            for _ in range(int(argument)):
                await run.working()
            await run.chunk("one ", last=False)
            await run.chunk("two", last=True)
        elif command == "pace" and argument.isdecimal():
            for _ in range(int(argument)):
                await run.working()
                await run.chunk(f"piece {run.number}", last=False)
                await asyncio.sleep(0.01)
        elif command == "parameter" and argument:
            await run.chunk(parameter(context, argument) or "none", last=True)
        else:
            await run.chunk(text, last=True)
        await run.updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class Run:
    """A task under way. Its first event is the task itself."""

    def __init__(self, context, event_queue):
        self.context = context
        self.events = event_queue
        self.updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        self.number = 0
        self.has_begun = False
        self.has_artifact = False

    async def working(self):
        self.number += 1
        message = Message(
            message_id=f"{self.context.task_id}/{self.number}",
            task_id=self.context.task_id,
            context_id=self.context.context_id,
            role=Role.ROLE_AGENT,
            parts=[Part(text=str(self.number))],
        )
        if self.has_begun:
            await self.updater.update_status(TaskState.TASK_STATE_WORKING, message)
        else:
            await self.begin(TaskState.TASK_STATE_WORKING, message=message)

    async def chunk(self, text, last):
        artifact = Artifact(artifact_id="output", name="output", parts=[Part(text=text)])
        if self.has_begun:
            await self.updater.add_artifact(
                artifact.parts, artifact.artifact_id, artifact.name, append=self.has_artifact, last_chunk=last
            )
        else:
            await self.begin(TaskState.TASK_STATE_SUBMITTED, artifacts=[artifact])
        self.has_artifact = True

    async def begin(self, state, message=None, artifacts=()):
        self.has_begun = True
        now = Timestamp()
        now.GetCurrentTime()
        task = Task(
            id=self.context.task_id,
            context_id=self.context.context_id,
            status=TaskStatus(state=state, message=message, timestamp=now),
            artifacts=artifacts,
            history=[self.context.message],
        )
        await self.events.enqueue_event(task)


def parameter(context, name):
    """The value of a service parameter: a header, or metadata of gRPC."""
    state = context.call_context.state
    if "grpc_context" in state:
        fields = list(state["grpc_context"].invocation_metadata())
    else:
        fields = list(state["headers"].items())
    return ", ".join(value for key, value in fields if key.lower() == name.lower())


def skill(name, description):
    return AgentSkill(id=name, name=name, description=description, tags=["test"])


def card(http, rpc):
    return AgentCard(
        name="peer",
        description="An agent of bowline's tests",
        version="1.0.0",
        supported_interfaces=[
            AgentInterface(url=f"http://127.0.0.1:{http}/jsonrpc", protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"http://127.0.0.1:{http}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
            AgentInterface(url=f"127.0.0.1:{rpc}", protocol_binding="GRPC", protocol_version="1.0"),
        ],
        capabilities=AgentCapabilities(streaming=True, push_notifications=True, extended_agent_card=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[skill("echo", "Says the same")],
    )


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    http = listener.getsockname()[1]
    server = grpc.aio.server()
    rpc = server.add_insecure_port("127.0.0.1:0")

    public = card(http, rpc)
    extended = AgentCard()
    extended.CopyFrom(public)
    extended.skills.append(skill("for-those-who-are-known", "Only in the extended card"))
    handler = DefaultRequestHandler(
        agent_executor=Echo(),
        task_store=InMemoryTaskStore(),
        agent_card=public,
        push_config_store=InMemoryPushNotificationConfigStore(),
        extended_agent_card=extended,
    )
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    await server.start()
    app = Starlette(
        routes=create_agent_card_routes(public)
        + create_jsonrpc_routes(handler, "/jsonrpc")
        + create_rest_routes(handler, path_prefix="/rest")
    )
    print(http, rpc, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main())

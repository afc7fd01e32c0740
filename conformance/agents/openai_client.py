"""10 chat completions with PyPI `openai` and another base URL; every second one is streamed."""

import os
import platform
from importlib.metadata import version

from openai import OpenAI

client = OpenAI(base_url=os.environ["AGENT_URL"] + "/v1", api_key=os.environ["AGENT_TOKEN"], max_retries=0)
for number in range(10):
    messages = [{"role": "user", "content": f"ahoy {number}"}]
    if number % 2:
        chunks = client.chat.completions.create(model="stub", messages=messages, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = client.chat.completions.create(model="stub", messages=messages).choices[0].message.content
    assert text == "ahoy back", text
print(f"PyPI openai {version('openai')}, Python {platform.python_version()}")

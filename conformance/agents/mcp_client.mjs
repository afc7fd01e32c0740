// 100 tool calls with npm `@modelcontextprotocol/sdk`.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const CALLS = 100;

const headers = { Authorization: `Bearer ${process.env.AGENT_TOKEN}` };
const transport = new StreamableHTTPClientTransport(new URL(`${process.env.AGENT_URL}/mcp`), { requestInit: { headers } });
const client = new Client({ name: 'agent', version: '1.0.0' });
await client.connect(transport);
for (let number = 0; number < CALLS; number += 1) {
  const answer = await client.callTool({ name: 'echo', arguments: { message: `ahoy ${number}` } });
  assert.equal(answer.content[0].text, `ahoy ${number}`);
}
await transport.terminateSession();
await client.close();

const lock = JSON.parse(readFileSync(new URL('package-lock.json', import.meta.url)));
const { version } = lock.packages['node_modules/@modelcontextprotocol/sdk'];
console.log(`npm @modelcontextprotocol/sdk ${version}, Node.js ${process.versions.node}`);

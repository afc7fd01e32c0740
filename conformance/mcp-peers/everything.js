// The TypeScript SDK's server-everything on a loopback port of its own, for sdk/mcp/tests/it/peers.rs.
//
//     node everything.js {sse|streamableHttp}
//
// Prints one line, the port, when it is ready, and ends when its standard input does. What the server itself prints goes to
// standard error.

import { Server } from 'node:net';

console.log = console.error;
process.stdin.resume().on('end', () => process.exit());

// It would listen on all interfaces, and on a port that may be taken.
const { listen } = Server.prototype;
Server.prototype.listen = function (_port, ready) {
  this.once('listening', () => process.stdout.write(`${this.address().port}\n`));
  return listen.call(this, 0, '127.0.0.1', ready);
};

await import('@modelcontextprotocol/server-everything/dist/index.js');

// Loaded before a server that knows no loopback and cannot tell which port it
// got: makes it listen on a free port of 127.0.0.1 and says which, on stderr.
import { Server } from 'node:net';

const listen = Server.prototype.listen;
Server.prototype.listen = function (_port, ...rest) {
  this.once('listening', () => process.stderr.write(`${JSON.stringify({ event: 'listening', port: this.address().port })}\n`));
  return listen.call(this, 0, '127.0.0.1', ...rest.filter((x) => typeof x === 'function'));
};

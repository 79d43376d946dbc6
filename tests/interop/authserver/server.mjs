// An authorization server for tests, on a free port of loopback. Standard output
// gets one line of JSON once it listens. It ends on SIGTERM, or when standard
// input ends, so that it does not outlive the test that started it. POST /rotate
// begins anew under the same issuer, with another signing key.
//
//   node server.mjs --types FILE|URL… --resource URI… --client ID… --scopes "a b" \
//                   --callback URI [--lifetime SECONDS]
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { interact } from './interaction.mjs';
import { newProvider } from './provider.mjs';
import { loadTypes } from './types.mjs';

const { values: options } = parseArgs({
  options: {
    types: { type: 'string', multiple: true },
    resource: { type: 'string', multiple: true },
    client: { type: 'string', multiple: true },
    scopes: { type: 'string' },
    callback: { type: 'string' },
    lifetime: { type: 'string', default: '300' },
  },
});

// An issuer is an address, so the port must be known before there is a provider.
const server = createServer();
await new Promise((resolve, reject) => {
  server.once('error', reject);
  server.listen(0, '127.0.0.1', resolve);
});
const issuer = `http://127.0.0.1:${server.address().port}`;
const types = await loadTypes(options.types);
// A provider has its key for life, so another key takes another provider. It
// knows nothing of what the first one issued, as after a restart.
const start = () => newProvider({
  issuer,
  types,
  clients: options.client,
  callback: options.callback,
  resources: options.resource,
  scopes: options.scopes,
  lifetime: Number(options.lifetime),
}).on('server_error', (_ctx, err) => console.error(err));
let provider = start();
let handle = provider.callback();

server.on('request', (req, res) => {
  if (req.method === 'POST' && req.url === '/rotate') {
    provider = start();
    handle = provider.callback();
    res.statusCode = 204;
    res.end();
    return;
  }
  if (!req.url.startsWith('/interaction/')) {
    handle(req, res);
    return;
  }
  interact(provider, req, res).catch((err) => {
    console.error(err);
    res.statusCode = 400;
    res.end(String(err));
  });
});

function stop() {
  server.close();
  server.closeAllConnections();
  process.exit(0);
}
process.on('SIGTERM', stop);
process.stdin.on('end', stop).resume();

console.log(JSON.stringify({ event: 'ready', issuer, node: process.versions.node, types: [...types.keys()] }));

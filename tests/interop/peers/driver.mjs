// Runs one scripted session with an official TypeScript client and writes down
// what came over the wire. Reads one session from stdin, writes one transcript
// to stdout.
//
// session: {"sdk":"ts1"|"ts2", "command":[…] | "url":…, "headers":{…}, "root":…, "dir":…, "steps":[…]}
//   root       the URI of the client's only root
//   dir        a folder made for this session; "${dir}" in params
// step, in order:
//   name       of the step; unique
//   call       the method, sent through the client's own function for it where it has one
//   params     of the call. "${x}" is what an earlier step saved under that name, "${long}" a long text
//   save       {name: JSON Pointer into the result}
//   pages      follow nextCursor; each page is a response of the step
//   progress   ask for progress
//   cancel     cancel when the first progress arrives
//   maybe      a response may come or not: the server answers what was cancelled, or ends first
//   until      repeat the call until a response holds this text; only that one is kept
//   await      {method: n}: before the step ends, so many messages of the method have come in all
//   notify     a notification instead of a call
//   sdk        only with this SDK
//   http       only over HTTP (true) or stdio (false)
import { setTimeout as sleep } from 'node:timers/promises';

// What differs from run to run by nature, and what is written for it. Nothing
// else is left out of the comparison, but for what ignored names.
const random = [
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<uuid>'], // session and elicitation ids
  [/"taskId":"[0-9a-f]{32}"/g, '"taskId":"<task>"'],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '<instant>'], // of tasks
  [/\d{1,2}:\d\d:\d\d [AP]M/g, '<time>'], // in resources made for the call
  [/"statusMessage":"(Gathering sources|Analyzing content)\.\.\."/g, '"statusMessage":"<stage>"'], // of tasks, a second each
  [/(created|modified|accessed): [^\\]*/g, '$1: <time>'], // of files
];

const ignored = new Set([
  // Said when initialize ends, when the client's stream for it may not be open yet.
  'notifications/tools/list_changed',
  // One for each stage of a task: how many depends on the machine.
  'notifications/tasks/status',
]);

const patience = 10_000; // milliseconds for whatever should come

async function load(sdk) {
  if (sdk === 'ts2') return Object.assign({}, await import('@modelcontextprotocol/client'), await import('@modelcontextprotocol/client/stdio'));
  const at = (path) => import(`@modelcontextprotocol/sdk/${path}`);
  return Object.assign({}, await at('types.js'), await at('client/index.js'), await at('client/stdio.js'), await at('client/streamableHttp.js'));
}

const steadied = (dir) => (text) => random.reduce((t, [what, by]) => t.replace(what, by), dir ? text.replaceAll(dir, '<dir>') : text);

const at = (value, pointer) => pointer.split('/').slice(1).reduce((v, key) => v?.[key], value);

// Wire keeps all that came in, as text, by what it is.
class Wire {
  constructor(steady) {
    this.steady = steady;
  }
  responses = new Map(); // by id: {text, progress before it}
  messages = {}; // by method
  http = {}; // by verb and method: how it was answered
  progress = new Map(); // by token
  seen = new Set(); // ids of events

  take(text) {
    let m;
    try {
      m = JSON.parse(text);
    } catch {
      m = { method: 'not JSON' };
    }
    if (m.method === undefined) {
      this.responses.set(m.id, { text: this.steady(text), progress: this.progress.get(m.id) ?? 0 });
      return;
    }
    const token = m.params?.progressToken;
    if (token !== undefined) this.progress.set(token, (this.progress.get(token) ?? 0) + 1);
    (this.messages[m.method] ??= []).push(this.steady(text));
  }

  async until(holds, what) {
    const end = Date.now() + patience;
    while (!holds()) {
      if (Date.now() > end) throw new Error(`${what} did not come`);
      await sleep(5);
    }
  }
}

// overStdio listens beside the SDK to what the program writes.
function overStdio(sdk, session, wire) {
  const [command, ...args] = session.command;
  const transport = new sdk.StdioClientTransport({ command, args, stderr: 'inherit' });
  const start = transport.start.bind(transport);
  transport.start = async () => {
    await start();
    let rest = '';
    const decoder = new TextDecoder();
    transport._process.stdout.on('data', (chunk) => {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop();
      for (const line of lines) wire.take(line);
    });
  };
  return transport;
}

// overHTTP listens to what passes in each answer's body. A copy of the body
// would not do: it keeps the answer open when the client hangs up.
function overHTTP(sdk, session, wire) {
  const listening = async (url, init) => {
    const verb = init?.method ?? 'GET';
    const method = verb === 'POST' ? JSON.parse(init.body).method ?? 'response' : '';
    const answer = await fetch(url, init);
    const kind = answer.headers.get('content-type') ?? '';
    const told = [answer.status, kind, answer.headers.get('www-authenticate') ?? ''].join(' ').trim();
    const list = (wire.http[`${verb} ${method}`.trim()] ??= []);
    if (!list.includes(told)) list.push(told);
    if (!answer.body) return answer;
    const { status, statusText, headers } = answer;
    return new Response(answer.body.pipeThrough(listener(kind, wire)), { status, statusText, headers });
  };
  return new sdk.StreamableHTTPClientTransport(new URL(session.url), { fetch: listening, requestInit: { headers: session.headers } });
}

// listener takes what a body brings. An event that was taken before is a
// replay: TypeScript clients resume the stream of a call that ended in an error
// after a second, and server-everything then replays all that the session saw.
function listener(kind, wire) {
  const stream = kind.startsWith('text/event-stream');
  const decoder = new TextDecoder();
  let rest = '';
  return new TransformStream({
    transform(chunk, out) {
      out.enqueue(chunk);
      rest += decoder.decode(chunk, { stream: true });
      if (!stream) return;
      const events = rest.split(/\r?\n\r?\n/);
      rest = events.pop();
      for (const event of events) {
        const field = (name) => event.split(/\r?\n/).filter((l) => l.startsWith(`${name}:`)).map((l) => l.slice(name.length + 1).replace(/^ /, ''));
        const [id] = field('id');
        if (id !== undefined && wire.seen.has(id)) continue;
        if (id !== undefined) wire.seen.add(id);
        const data = field('data').join('\n');
        if (data !== '') wire.take(data);
      }
    },
    flush() {
      if (!stream && rest !== '') wire.take(rest);
    },
  });
}

// answering is the user behind the client, who always says the same.
function answering(client, sdk, { sdk: name, root }) {
  const on = (method, schema, answer) => client.setRequestHandler(name === 'ts2' ? method : sdk[schema], answer);
  on('roots/list', 'ListRootsRequestSchema', () => ({ roots: [{ uri: root, name: 'work' }] }));
  on('sampling/createMessage', 'CreateMessageRequestSchema', () => ({
    model: 'scripted', role: 'assistant', content: { type: 'text', text: 'Grüße, 世界 🎉' }, stopReason: 'endTurn',
  }));
  on('elicitation/create', 'ElicitRequestSchema', (request) => {
    if (request.params.mode === 'url') return { action: 'accept' };
    const fields = Object.keys(request.params.requestedSchema.properties);
    return { action: 'accept', content: fields.includes('name') ? { name: 'Ann', check: true } : {} };
  });
}

// call uses the client's function for the method, which is what applications do.
function call(client, sdk, name, method, params, options) {
  const ask = { ...(params === undefined ? {} : { params }) };
  switch (method) {
    case 'ping': return client.ping(options);
    case 'tools/list': return client.listTools(params, options);
    case 'tools/call':
      if (params.task !== undefined) break; // the client's function would wait for the task's end
      return name === 'ts2' ? client.callTool(params, options) : client.callTool(params, undefined, options);
    case 'resources/list': return client.listResources(params, options);
    case 'resources/templates/list': return client.listResourceTemplates(params, options);
    case 'resources/read': return client.readResource(params, options);
    case 'resources/subscribe': return client.subscribeResource(params, options);
    case 'resources/unsubscribe': return client.unsubscribeResource(params, options);
    case 'prompts/list': return client.listPrompts(params, options);
    case 'prompts/get': return client.getPrompt(params, options);
    case 'completion/complete': return client.complete(params, options);
    case 'logging/setLevel': return client.setLoggingLevel(params.level, options);
  }
  return client.request({ method, ...ask }, sdk.ResultSchema, options);
}

// filled puts what was saved into params.
function filled(params, saved) {
  if (params === undefined) return undefined;
  return JSON.parse(JSON.stringify(params).replace(/\$\{(\w+)\}/g, (_, key) => saved[key] ?? `no ${key}`));
}

async function one(state, step, params) {
  const { client, sdk, session, wire } = state;
  const first = state.sent.length;
  const stop = new AbortController();
  const options = { timeout: patience };
  if (step.progress || step.cancel) options.onprogress = () => step.cancel && stop.abort('enough');
  if (step.cancel) options.signal = stop.signal;
  let outcome;
  let result;
  try {
    if (step.notify) await client.notification({ method: step.notify });
    else result = await call(client, sdk, session.sdk, step.call, params, options);
    outcome = 'result';
  } catch (e) {
    outcome = step.cancel && stop.signal.aborted ? 'cancelled' : wire.steady(`${e.constructor.name} ${e.code ?? ''} ${e.message}`);
  }
  // The copies of what came in may be read after the client has read its own.
  const ids = state.sent.slice(first);
  if (outcome === 'result') await wire.until(() => ids.every((id) => wire.responses.has(id)), `the response to ${step.name}`);
  return { ids, outcome, result };
}

const wire = (state, id) => state.wire.responses.get(id);

async function run(state, step) {
  let params = filled(step.params, state.saved);
  const ids = [];
  let done;
  const end = Date.now() + patience;
  for (;;) {
    done = await one(state, step, params);
    if (step.until) {
      ids.splice(0);
      const told = done.ids.map((id) => state.wire.responses.get(id)?.text ?? '').join();
      if (!told.includes(step.until)) {
        if (Date.now() > end) throw new Error(`${step.name}: no response has ${step.until}`);
        await sleep(20);
        continue;
      }
      // How many it took differs from run to run, and with it the id.
      for (const id of done.ids) wire(state, id).text = wire(state, id).text.replace(`"id":${id}`, '"id":"<last>"');
    }
    ids.push(...done.ids);
    if (!step.pages || done.result?.nextCursor === undefined) break;
    params = { ...params, cursor: done.result.nextCursor };
  }
  for (const [key, pointer] of Object.entries(step.save ?? {})) state.saved[key] = at(done.result, pointer);
  for (const [method, n] of Object.entries(step.await ?? {})) {
    await state.wire.until(() => (state.wire.messages[method]?.length ?? 0) >= n, `${n} ${method}, awaited by ${step.name},`);
  }
  return { name: step.name, ids: step.maybe ? [] : ids, outcome: done.outcome };
}

async function play(session) {
  const sdk = await load(session.sdk);
  const wire = new Wire(steadied(session.dir));
  const transport = (session.command ? overStdio : overHTTP)(sdk, session, wire);
  const capabilities = { sampling: {}, roots: { listChanged: true }, elicitation: { form: {}, url: {} } };
  const options = { capabilities, ...(session.sdk === 'ts2' ? { versionNegotiation: { mode: 'auto' } } : {}) };
  const client = new sdk.Client({ name: 'driver', version: '1.0.0' }, options);
  answering(client, sdk, session);
  const state = { client, sdk, session, wire, saved: { dir: session.dir, long: 'é'.repeat(100_000) }, sent: [] };
  const send = transport.send.bind(transport);
  transport.send = (message, ...more) => {
    if (message.method !== undefined && message.id !== undefined) state.sent.push(message.id);
    return send(message, ...more);
  };
  const steps = [];
  // The first SDK tells the transport alone.
  let revision;
  const told = transport.setProtocolVersion?.bind(transport);
  transport.setProtocolVersion = (version) => {
    revision = version;
    told?.(version);
  };
  try {
    await client.connect(transport, { timeout: patience });
    steps.push({ name: 'connect', ids: state.sent.slice(), outcome: 'result' });
    for (const step of session.steps) {
      if (step.sdk && step.sdk !== session.sdk) continue;
      if (step.http !== undefined && step.http !== (session.url !== undefined)) continue;
      steps.push(await run(state, step));
    }
    if (session.sdk === 'ts2') revision = client.getNegotiatedProtocolVersion();
    if (transport.terminateSession) await transport.terminateSession();
  } finally {
    await client.close();
  }
  for (const method of ignored) delete wire.messages[method];
  return {
    revision,
    // Responses are looked up at the end: one that comes to a cancelled call
    // later is in the transcript.
    steps: steps.map(({ name, ids, outcome }) => ({ name, outcome, responses: ids.flatMap((id) => wire.responses.get(id) ?? []) })),
    messages: wire.messages,
    http: wire.http,
  };
}

let input = '';
for await (const chunk of process.stdin) input += chunk;
let out;
try {
  out = await play(JSON.parse(input));
} catch (e) {
  out = { failed: String(e?.stack ?? e) };
}
process.stdout.write(`${JSON.stringify(out)}\n`, () => process.exit(0));

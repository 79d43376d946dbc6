// Drives the official TypeScript clients for the Go test beside it: reads one
// scenario per line, writes one outcome per line.
//
// scenario: {"sdk":"ts1"|"ts2","mode":…,"base":…}; modes of authentication:
//   redirect  an OAuthClientProvider whose user is sent to a page
//   refresh   the same, with a refresh token
//   reader    the same as redirect, behind a fetch that reads challenges
//   machine   the SDK's provider for client credentials
//   fetch     withOAuth around fetch, no provider in the transport
//   plain     a fixed Authorization header
import { createInterface } from 'node:readline';

const good = 'good';

async function load(sdk) {
  if (sdk === 'ts2') return import('@modelcontextprotocol/client');
  const at = (path) => import(`@modelcontextprotocol/sdk/client/${path}`);
  return Object.assign({}, await at('index.js'), await at('streamableHttp.js'), await at('middleware.js'), await at('auth-extensions.js'));
}

// Provider keeps credentials in memory and writes down what the SDK does to
// them. It can give up a token only when the SDK says so.
class Provider {
  constructor(base, refresh, events) {
    this.base = base;
    this.events = events;
    this.held = { access_token: good, token_type: 'Bearer', scope: 'payments:read', issuer: base };
    if (refresh) this.held.refresh_token = 'refresh';
  }
  get redirectUrl() { return 'http://127.0.0.1/callback'; }
  get clientMetadata() { return { redirect_uris: [this.redirectUrl], client_name: 'agent' }; }
  clientInformation() { return { client_id: 'agent', issuer: this.base }; }
  tokens() { return this.held; }
  saveTokens(tokens) {
    this.events.push('save');
    this.held = tokens;
  }
  redirectToAuthorization(url) {
    this.events.push('redirect');
    this.page = url;
  }
  saveCodeVerifier(verifier) { this.verifier = verifier; }
  codeVerifier() { return this.verifier; }
  invalidateCredentials(what) {
    this.events.push(`invalidate ${what}`);
    if (what !== 'verifier') this.held = undefined;
  }
}

// challenged is what the reading fetch makes of a challenge.
class challenged extends Error {
  constructor(remediation) {
    super('challenge with remediation');
    this.remediation = remediation;
  }
}

// reading keeps a challenge that the SDK does not know from the SDK.
async function reading(url, init) {
  const answer = await fetch(url, init);
  const challenge = answer.headers.get('www-authenticate') ?? '';
  if (!challenge.includes('error="insufficient_authorization"')) return answer;
  await answer.body?.cancel();
  throw new challenged(/authorization_remediation="([^"]*)"/.exec(challenge)?.[1]);
}

function machine(sdk, base, events) {
  const provider = new sdk.ClientCredentialsProvider({
    clientId: 'agent', clientSecret: 'secret', clientName: 'agent', scope: 'payments:read', expectedIssuer: base,
  });
  provider.saveTokens({ access_token: good, token_type: 'Bearer', scope: 'payments:read', issuer: base });
  const save = provider.saveTokens.bind(provider);
  provider.saveTokens = (tokens) => {
    events.push('save');
    save(tokens);
  };
  return provider;
}

function transportOf(sdk, s, events) {
  const url = new URL(`${s.base}/mcp`);
  const Transport = sdk.StreamableHTTPClientTransport;
  switch (s.mode) {
    case 'machine': {
      const provider = machine(sdk, s.base, events);
      return { provider, transport: new Transport(url, { authProvider: provider }) };
    }
    case 'fetch': {
      const provider = new Provider(s.base, false, events);
      return { provider, transport: new Transport(url, { fetch: sdk.withOAuth(provider, url)(fetch) }) };
    }
    case 'reader': {
      const provider = new Provider(s.base, false, events);
      return { provider, transport: new Transport(url, { authProvider: provider, fetch: reading }) };
    }
    case 'plain':
      return { transport: new Transport(url, { requestInit: { headers: { Authorization: `Bearer ${good}` } } }) };
    default: {
      const provider = new Provider(s.base, s.mode === 'refresh', events);
      return { provider, transport: new Transport(url, { authProvider: provider }) };
    }
  }
}

// attempt makes one call and tells what its caller has in hand afterwards.
async function attempt(client, timeout) {
  try {
    const result = await client.callTool({ name: 'pay', arguments: {} }, ...timeout);
    return { kind: result.isError ? 'refused' : 'done', told: JSON.stringify(result) };
  } catch (e) {
    const told = [e.message, JSON.stringify(e.data ?? null), JSON.stringify({ ...e })].join(' ');
    return { kind: 'thrown', name: e.constructor.name, code: e.code, message: e.message, told };
  }
}

// consent is the user: it opens the page and comes back with a code.
async function consent(provider, transport) {
  const answer = await fetch(provider.page, { redirect: 'manual' });
  const back = new URL(answer.headers.get('location'));
  await transport.finishAuth(back.searchParams.get('code'));
}

async function run(s) {
  const sdk = await load(s.sdk);
  const events = [];
  const out = { events };
  const { provider, transport } = transportOf(sdk, s, events);
  const options = s.sdk === 'ts2' ? { versionNegotiation: { mode: 'auto' } } : undefined;
  const client = new sdk.Client({ name: 'agent', version: '1.0.0' }, options);
  client.onclose = () => events.push('close');
  const timeout = s.sdk === 'ts2' ? [{ timeout: 5000 }] : [undefined, { timeout: 5000 }];
  await client.connect(transport);
  out.first = await attempt(client, timeout);
  out.sameToken = !provider || (await provider.tokens())?.access_token === good;
  try {
    out.alive = (await client.listTools()).tools.length === 1;
  } catch (e) {
    out.alive = false;
    out.why = `${e.constructor.name}: ${e.message}`;
  }
  if (provider?.page) {
    try {
      await consent(provider, transport);
      out.retried = true;
      out.second = await attempt(client, timeout);
    } catch (e) {
      out.second = { kind: 'thrown', name: e.constructor.name, message: e.message, told: e.message };
    }
  }
  out.version = transport.protocolVersion;
  client.onclose = undefined;
  await client.close();
  return out;
}

for await (const line of createInterface({ input: process.stdin })) {
  let out;
  try {
    out = await run(JSON.parse(line));
  } catch (e) {
    out = { failed: String(e?.stack ?? e) };
  }
  process.stdout.write(`${JSON.stringify(out)}\n`);
}

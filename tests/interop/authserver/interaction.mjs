// The pages that a user sees, without the markup: what is asked comes as JSON,
// what the user decides goes back as a form.
import { grantedBy } from './consent.mjs';

const maxForm = 64 * 1024;

/** Answers /interaction/UID, /interaction/UID/login and /interaction/UID/consent. */
export async function interact(provider, req, res) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(req, res);
  const step = new URL(req.url, provider.issuer).pathname.split('/')[3];
  if (req.method === 'GET' && step === undefined) {
    res.setHeader('content-type', 'application/json');
    res.end(JSON.stringify({ prompt: prompt.name, client: params.client_id, details: prompt.details }));
    return;
  }
  if (req.method !== 'POST' || step !== prompt.name) throw new Error(`${req.method} ${step} at prompt ${prompt.name}`);
  const form = await readForm(req);
  if (step === 'login') {
    await provider.interactionFinished(req, res, { login: { accountId: form.login } }, { mergeWithLastSubmission: false });
    return;
  }
  const grant = await consent(provider, { prompt, params, session, grantId }, form);
  await provider.interactionFinished(req, res, { consent: { grantId: grant } }, { mergeWithLastSubmission: true });
}

async function consent(provider, { prompt, params, session, grantId }, form) {
  const accountId = session.accountId;
  // Grants may be merged or made anew; which one is the server's choice. Merging
  // lets several objects of one type meet in one token.
  const earlier = form.merge && grantId ? await provider.Grant.find(grantId) : undefined;
  const grant = earlier ?? new provider.Grant({ accountId, clientId: params.client_id });
  if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope);
  // All that is asked for, because the scopes of an earlier grant are not asked again.
  grant.addResourceScope(params.resource, params.scope ?? '');
  for (const detail of grantedBy(prompt.details.rar ?? [], form, params.resource)) grant.addRar(detail);
  return grant.save();
}

async function readForm(req) {
  let text = '';
  for await (const chunk of req) {
    text += chunk;
    if (text.length > maxForm) throw new Error('form too large');
  }
  return Object.fromEntries(new URLSearchParams(text));
}

// What the user and the server make of the details that a client asked for.
// An authorization server does not echo: people approve less, and servers add
// what they know. Each way is one function from asked to granted, chosen in the
// consent form; RFC 9396 sections 3, 6 and 7.1 are where the freedom is from.

const ways = {
  // Everything as asked.
  approve: (asked) => asked,

  // The user allows less of each object.
  narrow: (asked, form) => asked.map((detail) => narrowed(detail, form)),

  // The user picks one object out of several.
  one: (asked) => asked.slice(0, 1),

  // The user refuses the details but not the client: scopes only.
  none: () => [],

  // The server knows which resource server the client named.
  locations: (asked, { resource }) => asked.map((detail) => ({ ...detail, locations: [resource] })),

  // The server knows the creditor's name.
  name: (asked) => asked.map((detail) => ({ ...detail, creditorName: 'Example Supplier' })),

  // The user picked the account to pay from: a member that the type may not have.
  account: (asked) => asked.map((detail) => ({
    ...detail, debtorAccount: { iban: 'DE75512108001245126199' },
  })),

  // The server gives each granted object an id (RFC 9396 section 2.2).
  identifier: (asked) => asked.map((detail, i) => ({ ...detail, identifier: `grant-${i + 1}` })),

  // A server in front of a database that keeps sets, not lists.
  reorder: (asked) => [...asked].reverse().map(reordered),

  // A server that stores decimal strings with two places.
  respell: (asked) => asked.map(respelled),
};

/** The names that a consent form may give as `way`. */
export const wayNames = Object.keys(ways);

/** The details granted, from those asked and the form that the user sent. */
export function grantedBy(asked, form, resource) {
  const way = Object.hasOwn(ways, form.way) ? ways[form.way] : undefined;
  if (!way) throw new Error(`unknown way ${form.way}`);
  return way(structuredClone(asked), { ...form, resource });
}

function narrowed(detail, { amount, actions, paths }) {
  const less = { ...detail };
  if (amount && less.instructedAmount) less.instructedAmount = { ...less.instructedAmount, amount };
  if (actions && less.actions) less.actions = actions.split(' ');
  if (paths && less.paths) less.paths = paths.split(' ');
  return less;
}

function reordered(value) {
  if (Array.isArray(value)) return [...value].reverse().map(reordered);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).reverse().map(([k, v]) => [k, reordered(v)]));
}

function respelled(detail) {
  if (!detail.instructedAmount) return detail;
  const amount = Number(detail.instructedAmount.amount).toFixed(2);
  return { ...detail, instructedAmount: { ...detail.instructedAmount, amount } };
}

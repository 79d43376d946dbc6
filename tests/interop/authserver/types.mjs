// The authorization_details types that this server knows: the declarations of
// the policy bundles, or the metadata document that authzd makes of them. There
// is one definition of a type, and both sides of the loop judge by it.
import { readFile } from 'node:fs/promises';
import Ajv2020 from 'ajv/dist/2020.js';
import { errors } from 'oidc-provider';

/**
 * Reads the types of each source: the file of one declaration, or the address
 * of a type metadata document.
 */
export async function loadTypes(sources) {
  const ajv = new Ajv2020({ strict: false, allErrors: false });
  const types = new Map();
  for (const source of sources) {
    for (const [name, declared] of await declarations(source)) {
      if (types.has(name)) throw new Error(`type ${name} is declared twice`);
      types.set(name, { name, schema: declared.schema, check: ajv.compile(declared.schema) });
    }
  }
  return types;
}

async function declarations(source) {
  if (!/^https?:/.test(source)) {
    const declared = JSON.parse(await readFile(source, 'utf8'));
    return [[declared.type, declared]];
  }
  const answer = await fetch(source);
  if (!answer.ok) throw new Error(`${source}: ${answer.status}`);
  const body = await answer.json();
  return Object.entries(body.types ?? body);
}

/** The types as the feature's configuration wants them (RFC 9396 section 5). */
export function asConfiguration(types) {
  return Object.fromEntries([...types.values()].map((type) => [type.name, {
    validate(_ctx, detail) { refuseInvalid(type, detail); },
  }]));
}

function refuseInvalid(type, detail) {
  if (type.check(detail)) return;
  const [fault] = type.check.errors;
  throw new errors.InvalidAuthorizationDetails(
    `${type.name}${fault.instancePath}: ${fault.message}`,
  );
}

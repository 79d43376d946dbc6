// The authorization server: node-oidc-provider with pushed and rich
// authorization requests, resource indicators and introspection.
import { generateKeyPairSync } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import Provider, { errors } from 'oidc-provider';
import { actorClaims, grantType, registerExchange } from './exchange.mjs';
import { asConfiguration } from './types.mjs';

/**
 * A new provider. Each of `clients` is a public client; each of `resources` is
 * an MCP server; `lifetime` is how many seconds an access token lives.
 */
export function newProvider({ issuer, types, clients, callback, resources, scopes, lifetime }) {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const indicators = resourceServers(resources, scopes, lifetime);
  const provider = new Provider(issuer, {
    clients: [...clients.map((id) => publicClient(id, callback, types)), introspector()],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' }] },
    extraTokenClaims: actorClaims,
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    cookies: { keys: ['only for tests'] },
    pkce: { required: () => true },
    ttl: { AccessToken: lifetime, AuthorizationCode: 60, Grant: 3600, Interaction: 600, RefreshToken: 3600, Session: 3600, IdToken: 60 },
    issueRefreshToken: async () => true,
    rotateRefreshToken: false,
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      revocation: { enabled: true },
      pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: true },
      resourceIndicators: indicators,
      richAuthorizationRequests: richRequests(types),
    },
  });
  registerExchange(provider, indicators.getResourceServerInfo, forResource);
  return provider;
}

// A client without a list of types may ask for none, so each is registered for all.
function publicClient(id, callback, types) {
  return {
    client_id: id,
    authorization_details_types: [...types.keys()],
    redirect_uris: [callback],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
    application_type: 'native',
  };
}

// introspector is the account under which a resource server introspects and
// exchanges tokens.
function introspector() {
  return {
    client_id: 'resource-server',
    client_secret: 'only for tests',
    redirect_uris: [],
    grant_types: [grantType],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_basic',
  };
}

// A resource whose path ends in /opaque gets tokens for introspection, the
// others JWTs (RFC 9068).
function resourceServers(resources, scopes, lifetime) {
  return {
    enabled: true,
    defaultResource: () => undefined,
    useGrantedResource: async () => true,
    getResourceServerInfo(_ctx, resource) {
      if (!resources.includes(resource)) throw new errors.InvalidTarget();
      const opaque = resource.endsWith('/opaque');
      return {
        scope: scopes,
        audience: resource,
        accessTokenTTL: lifetime,
        accessTokenFormat: opaque ? 'opaque' : 'jwt',
        ...(opaque ? {} : { jwt: { sign: { alg: 'ES256' } } }),
      };
    },
  };
}

function richRequests(types) {
  return {
    enabled: true,
    types: asConfiguration(types),
    // A code holds what the user granted, not what the client asked for.
    authorizationDetailsForGrantSource: async (ctx) => ctx.oidc.grant.rar,
    async authorizationDetailsForAccessToken(ctx, token, source) {
      const granted = forResource(source.rar ?? [], token);
      const asked = ctx.oidc.params.authorization_details;
      return asked === undefined ? granted : chosen(granted, JSON.parse(asked));
    },
    authorizationDetailsForIntrospection: async (_ctx, token) => forResource(token.rar ?? [], token),
  };
}

// forResource leaves out what is for other resource servers (RFC 9396 section 9).
function forResource(details, token) {
  return details.filter(({ locations }) => !locations?.length || locations.includes(token.aud));
}

// chosen is what a token request or a refresh asks for out of the grant. Plain
// equality refuses some lesser requests, and never grants more (RFC 9396 section 6).
function chosen(granted, asked) {
  for (const detail of asked) {
    if (!granted.some((one) => isDeepStrictEqual(one, detail))) {
      throw new errors.InvalidAuthorizationDetails('not part of the grant');
    }
  }
  return asked;
}

// Token exchange (RFC 8693), which the provider lacks: a server that was called
// with an opaque token gets one in its user's name for the next server, and is
// named in it as who acts.
import { errors } from 'oidc-provider';

export const grantType = 'urn:ietf:params:oauth:grant-type:token-exchange';
const accessToken = 'urn:ietf:params:oauth:token-type:access_token';

/** The claims of an exchanged token beside those of any other. */
export const actorClaims = (ctx) => (ctx.state.act ? { act: ctx.state.act } : undefined);

/**
 * Adds the grant. infoOf tells what a resource server's tokens are like,
 * detailsFor which details are for a token's audience.
 */
export function registerExchange(provider, infoOf, detailsFor) {
  async function exchange(ctx) {
    const { client, params } = ctx.oidc;
    const given = await provider.AccessToken.find(params.subject_token ?? '');
    if (params.subject_token_type !== accessToken || !given?.isValid) throw new errors.InvalidGrant('subject_token');
    // Who acted before is kept inside (section 4.1).
    ctx.state.act = { sub: client.clientId, ...given.extra };
    const info = infoOf(ctx, params.resource);
    const details = given.rar && detailsFor(given.rar, { aud: params.resource });
    // Without the grant, which is of another client.
    const made = new provider.AccessToken({
      accountId: given.accountId, client, gty: grantType, rar: details, scope: given.scope,
    });
    made.resourceServer = new provider.ResourceServer(params.resource, info);
    const value = await made.save();
    ctx.body = {
      access_token: value, issued_token_type: accessToken, token_type: made.tokenType, expires_in: made.expiration, scope: made.scope,
    };
  }
  provider.registerGrantType(grantType, exchange, ['subject_token', 'subject_token_type', 'resource']);
}

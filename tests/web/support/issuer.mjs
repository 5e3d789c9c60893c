// An OpenID Connect issuer on loopback, as strict as a real one about PKCE: nothing that is installed here could serve as one, and the page
// must never reach beyond this machine. What it gives out is real: the function verifies it with the issuer's public key.
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import http from 'node:http';

import { functionAt } from './place.mjs';

export const clientId = 'pgvigil-page';
/** The page of the function that knows the issuer; run.mjs chooses the port. */
export const issuerDashboard = () => `${functionAt(process.env.ISSUER_PORT)}/dashboard`;

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function accessToken(issuer) {
  const now = Math.floor(Date.now() / 1000);
  const signed = `${encode({ alg: 'ES256', typ: 'JWT', kid: 'web' })}.${encode({
    iss: issuer, aud: 'pgvigil', sub: '6f0ad3b4-9f0b-4f3a-8a0e-3d1f5f7c2a11', iat: now, exp: now + 600, app_metadata: { role: 'admin' },
  })}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

/** The server's answer to whoever asks for a token: once for each code, and only with the verifier that the code was asked for with. */
function redeem(codes, form, issuer) {
  const asked = codes.get(form.get('code'));
  codes.delete(form.get('code'));
  const challenge = createHash('sha256').update(form.get('code_verifier') ?? '').digest('base64url');
  const isRight = form.get('grant_type') === 'authorization_code' && form.get('client_id') === clientId && asked
    && asked.get('redirect_uri') === form.get('redirect_uri') && asked.get('code_challenge') === challenge
    && (form.get('code_verifier') ?? '').length >= 43 && !form.has('client_secret');
  return isRight
    ? [200, { access_token: accessToken(issuer), token_type: 'Bearer', expires_in: 600 }]
    : [400, { error: 'invalid_grant', error_description: '<img src=x onerror=window.pwned=1>' }];
}

/** Starts the issuer; answers what a function needs to know of it. */
export async function startIssuer() {
  const codes = new Map();
  let issuer;
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, issuer);
    const { origin } = new URL(issuerDashboard());
    const answer = (status, body, headers = {}) => {
      const isPage = typeof body === 'string';
      response.writeHead(status, { 'access-control-allow-origin': origin, 'content-type': isPage ? 'text/html; charset=utf-8' : 'application/json', ...headers });
      response.end(isPage ? body : JSON.stringify(body));
    };
    if (request.method === 'OPTIONS') {
      answer(204, '', { 'access-control-allow-headers': 'content-type', 'access-control-allow-methods': 'POST' });
    } else if (url.pathname === '/.well-known/openid-configuration') {
      answer(200, {
        issuer, authorization_endpoint: `${issuer}/authorize`, token_endpoint: `${issuer}/token`, jwks_uri: `${issuer}/keys`,
        response_types_supported: ['code'], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'],
        code_challenge_methods_supported: ['S256'],
      });
    } else if (url.pathname === '/authorize') {
      const asked = url.searchParams;
      const isRight = asked.get('response_type') === 'code' && asked.get('client_id') === clientId && asked.get('redirect_uri') === issuerDashboard()
        && asked.get('code_challenge_method') === 'S256' && /^[\w-]{43}$/.test(asked.get('code_challenge') ?? '') && (asked.get('state') ?? '').length >= 16;
      if (!isRight) return answer(400, `<!doctype html><title>refused</title><h1>Refused</h1>`);
      const code = randomBytes(16).toString('hex');
      codes.set(code, asked);
      const back = new URL(issuerDashboard());
      back.search = new URLSearchParams({ code, state: asked.get('state'), iss: issuer });
      const denied = new URL(issuerDashboard());
      denied.search = new URLSearchParams({ error: 'access_denied', error_description: '<img src=x onerror=window.pwned=1>', state: asked.get('state') });
      const link = (to, text) => `<p><a href="${to.href.replaceAll('&', '&amp;')}">${text}</a></p>`;
      answer(200, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>Issuer</title><h1>Who are you?</h1>${link(back, 'Continue as an admin')}${link(denied, 'Deny')}</html>`);
    } else if (url.pathname === '/token' && request.method === 'POST') {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', () => answer(...redeem(codes, new URLSearchParams(body), issuer)));
    } else {
      answer(404, { error: 'not_found' });
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  issuer = `http://127.0.0.1:${server.address().port}`;
  return {
    url: issuer,
    keys: JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'web', use: 'sig', alg: 'ES256' }] }),
    environment: {
      AUTH_SECRET_ID: 'pgvigil/web/issuer-keys', AUTH_ISSUER: issuer, DASHBOARD_OIDC_ISSUER: issuer, DASHBOARD_OIDC_CLIENT_ID: clientId,
    },
  };
}

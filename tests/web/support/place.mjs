// Where the demo's parts are, as script/demo told them in the environment, and how to reach them.
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const asked = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this by make test-web`);
  return value;
};

export const root = fileURLToPath(new URL('../../..', import.meta.url));
/** npm's packages are in .tools, where a plain import does not look. */
export const packages = createRequire(path.join(asked('WEB_PACKAGES'), 'package.json'));
export const chromiumPath = asked('WEB_CHROMIUM');
export const artefacts = asked('WEB_ARTEFACTS');
mkdirSync(artefacts, { recursive: true });

const host = '127.0.0.1';
/** The URL of the function under an emulator at a port. */
export const functionAt = (port) => `http://${host}:${port}/lambda-url/pgvigil`;
/** The function that the tests look at; run.mjs chooses the port and starts it. */
export const address = functionAt(process.env.WEB_PORT);
export const dashboard = `${address}/dashboard`;

/** SQL as a superuser; answers what psql prints. */
export function sql(text, database = 'weddings') {
  const psql = path.join(asked('PG_BIN'), 'psql');
  const arguments_ = ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-h', host, '-p', asked('PG_PORT'), '-U', 'postgres', '-d', database];
  const result = spawnSync(psql, arguments_, {
    input: text,
    encoding: 'utf8',
    env: { ...process.env, PGPASSFILE: path.join(asked('DEMO'), 'pgpass') },
  });
  if (result.status !== 0) throw new Error(`psql: ${result.stderr || result.error}`);
  return result.stdout.trim();
}

const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A token as the demo's own, but for what is said otherwise. */
export function token(claims = {}, key = asked('AUTH_SECRET')) {
  const now = Math.floor(Date.now() / 1000);
  const signed = [
    { alg: 'HS256', typ: 'JWT' },
    { sub: 'd2f1c9a0-6c1b-4a55-9d53-6a4f7c1f7e10', iss: 'pgvigil-demo', aud: 'pgvigil', iat: now, exp: now + 3600, app_metadata: { role: 'admin' }, ...claims },
  ].map(part).join('.');
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

/** The environment of a function under the emulator at a port, as script/demo makes it, with what is said besides. */
export function functionEnvironment(port, more = {}) {
  return {
    PATH: process.env.PATH,
    AWS_LAMBDA_RUNTIME_API: `http://${host}:${port}/.rt/pgvigil`,
    AWS_LAMBDA_FUNCTION_NAME: 'pgvigil',
    AWS_LAMBDA_FUNCTION_VERSION: '1',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '256',
    AWS_ENDPOINT_URL: `http://${host}:${asked('MOTO_PORT')}`,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'demo',
    AWS_SECRET_ACCESS_KEY: 'demo',
    DATABASE_SECRET_ID: 'pgvigil/demo/database',
    MIGRATION_SECRET_ID: 'pgvigil/demo/migration',
    DATABASE_TLS: 'disable',
    AUTH_MODE: 'token',
    AUTH_SECRET_ID: 'pgvigil/demo/auth',
    AUTH_ISSUER: 'pgvigil-demo',
    AUTH_AUDIENCE: 'pgvigil',
    ...more,
  };
}

/** Asks until the answer is not false; the last failure is told when it never comes. */
export async function eventually(what, ask, seconds = 60) {
  const until = Date.now() + seconds * 1000;
  for (let last; ; ) {
    try {
      const answer = await ask();
      if (answer) return answer;
    } catch (error) {
      last = error;
    }
    if (Date.now() > until) throw new Error(`${what}: not within ${seconds} s`, { cause: last });
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

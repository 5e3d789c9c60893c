// Fills the demo's database, starts beside the demo's own function those that the tests look at, runs the tests, and ends what it started.
// Arguments: beginnings of names of test files; without any, all of them. HOLD=1 runs none and leaves the page to be looked at.
import { spawn, spawnSync } from 'node:child_process';
import { openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
const listens = (port) =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false)).on('connect', () => socket.destroy());
  });
process.env.WEB_PORT = await freePort();
process.env.ISSUER_PORT = await freePort();
const { issuerDashboard, startIssuer } = await import('./support/issuer.mjs');
const { artefacts, dashboard, eventually, functionAt, functionEnvironment, root, sql, token } = await import('./support/place.mjs');

const here = fileURLToPath(new URL('.', import.meta.url));
const { ADMIN_PASSWORD, BINARY, MONITOR_PASSWORD, PG_BIN, PG_PORT, TOOLS } = process.env;
const started = [];

/** A process in a group of its own, so that the whole of it can be ended. */
function start(name, command, arguments_, env, input = '') {
  const log = openSync(path.join(artefacts, `${name}.log`), 'a');
  const child = spawn(command, arguments_, { cwd: root, detached: true, env, stdio: ['pipe', log, log] });
  child.on('error', (error) => console.error(`${name}: ${error.message}`));
  child.stdin.end(input);
  started.push(child);
  return child;
}

function endAll() {
  for (const child of started.splice(0)) {
    try {
      process.kill(-child.pid, 'SIGTERM');
    } catch {
      // It has ended by itself.
    }
  }
}
process.on('exit', endAll);
for (const [signal, status] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]]) process.on(signal, () => process.exit(status));

/** A function under an emulator of its own, started again when it ends, as Lambda does. */
async function startFunction(name, port, more) {
  const watch = ['lambda', 'watch', '--only-lambda-apis', '--ignore-changes', '--invoke-address', '127.0.0.1', '--invoke-port', port];
  start(name, path.join(TOOLS, 'lambda/bin/cargo-lambda'), watch, process.env);
  await eventually('the emulator', () => listens(port));
  start(name, path.join(root, 'demo/supervise'), [BINARY], functionEnvironment(port, more));
  await eventually('the function', async () => (await fetch(`${functionAt(port)}/api/monitoring/health`)).ok);
}

async function invoke(event) {
  const url = `http://127.0.0.1:${process.env.WEB_PORT}/2015-03-31/functions/pgvigil/invocations`;
  const answer = await fetch(url, { method: 'POST', body: JSON.stringify(event) });
  const text = await answer.text();
  if (!answer.ok || text.includes('"errorType"')) throw new Error(`${JSON.stringify(event)}: ${answer.status} ${text}`);
}

/** A session of the application's for as long as the tests run: what it calls itself, and what it says. */
function session(application, statements) {
  const env = { ...process.env, PGPASSFILE: path.join(process.env.DEMO, 'pgpass'), PGAPPNAME: application, PGOPTIONS: '-c app.planner_id=1' };
  start('session', path.join(PG_BIN, 'psql'), ['-XqAt', '-h', '127.0.0.1', '-p', PG_PORT, '-U', 'weddings_app', '-d', 'weddings'], env, statements);
}

function storeSecrets(secrets) {
  const { status, stderr } = spawnSync(path.join(TOOLS, 'moto/bin/python'), [path.join(root, 'demo/put_secrets.py')], {
    input: JSON.stringify(secrets),
    encoding: 'utf8',
    env: { ...functionEnvironment(0), AWS_DEFAULT_REGION: 'us-east-1' },
  });
  if (status !== 0) throw new Error(`storing secrets: ${stderr}`);
}

const login = (username, password, dbname) => ({ username, password, host: '127.0.0.1', port: Number(PG_PORT), dbname });

console.error('filling the database');
sql(readFileSync(path.join(here, 'fill.sql'), 'utf8'));
sql(readFileSync(path.join(here, 'pages.sql'), 'utf8'));
sql('create database florists owner planner_admin', 'postgres');
const issuer = await startIssuer();
storeSecrets({
  'pgvigil/web/florists': login('pgvigil', MONITOR_PASSWORD, 'florists'),
  'pgvigil/web/florists-migration': login('planner_admin', ADMIN_PASSWORD, 'florists'),
  'pgvigil/web/issuer-keys': issuer.keys,
});
await startFunction('web', process.env.WEB_PORT, { DATABASE_TARGETS: 'florists=pgvigil/web/florists,florists.migration=pgvigil/web/florists-migration' });
await startFunction('issuer', process.env.ISSUER_PORT, issuer.environment);
await invoke({ task: 'migrate', target: 'florists' });
sql("update monitoring.settings set value = '10000' where key in ('gets_per_minute', 'posts_per_minute')", 'florists');

const markup = '<img src=x onerror=window.pwned=1>';
session(markup, 'select pg_sleep(86400) as "</script><script>window.pwned=1</script>";');
session(`holder ${markup}`, 'begin; update vendors set updated_at = now() where id = 16; select pg_sleep(86400);');
await eventually('the session that holds a lock', () => sql("select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.application_name like 'holder %' and l.mode = 'RowExclusiveLock'") !== '0');
session(`waiter ${markup}`, 'update vendors set phone = null where id = 16;');
await eventually('the session that waits', () => sql("select count(*) from pg_stat_activity where application_name like 'waiter %' and wait_event_type = 'Lock'") === '1');
await invoke({ task: 'sample' });

process.env.ISSUER = issuer.url;
if (process.env.HOLD) {
  const names = ['DEMO', 'PG_BIN', 'PG_PORT', 'MOTO_PORT', 'AUTH_SECRET', 'TOOLS', 'WEB_PACKAGES', 'WEB_CHROMIUM', 'WEB_ARTEFACTS', 'WEB_PORT', 'ISSUER_PORT', 'ISSUER'];
  writeFileSync(path.join(artefacts, 'environment'), names.map((name) => `export ${name}='${process.env[name]}'\n`).join(''), { mode: 0o600 });
  console.error(`\n${dashboard}#access_token=${token({ exp: Math.floor(Date.now() / 1000) + 43200 })}\n${issuerDashboard()}\n`);
  console.error(`one test: . ${artefacts}/environment; node --test tests/web/events.test.mjs\nuntil Ctrl-C`);
  await new Promise((resolve) => setTimeout(resolve, 43_200_000));
}

// The test that stops the server comes last, in a run of its own (the runner sorts): the demo's workload does not survive it.
const only = process.argv.slice(2);
const files = readdirSync(here)
  .filter((name) => name.endsWith('.test.mjs') && (only.length === 0 || only.some((part) => name.startsWith(part))));
if (files.length === 0) throw new Error(`no test file of that name: ${only}`);
const isLast = (name) => name === 'outage.test.mjs';
let status = 0;
for (const names of [files.filter((name) => !isLast(name)), files.filter(isLast)]) {
  if (names.length === 0) continue;
  const tests = spawn(process.execPath, ['--test', '--test-concurrency=1', '--test-reporter=spec', ...names.map((name) => path.join(here, name))], { stdio: 'inherit' });
  const end = () => tests.kill();
  process.on('exit', end);
  const ended = await new Promise((resolve) => tests.on('exit', (code, signal) => resolve(signal ? 1 : code)));
  process.off('exit', end);
  status = status || ended;
}
console.error(`screenshots and reports: ${artefacts}`);
process.exit(status);

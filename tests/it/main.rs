//! One binary for all integration tests: the crate is linked once, and its tests share what is slow to start.

#![allow(
    clippy::expect_used,
    reason = "in a test, what cannot go on should say so and stop"
)]

// The guard against what a matrix cannot say: settings, search paths, subjects, membership.
mod access;
// Who may what: every caller, every object, every action, as two files a person can read.
mod access_matrix;
// What is looked at, what is found, and what becomes of it.
mod checks;
// The binary under AWS's emulator, with every event file.
mod emulator;
mod encodings;
// Metrics in the log, by the format's specification.
mod cloudwatch;
// A task ends before Lambda would end it.
mod deadline;
// The page and its files.
mod dashboard;
// The API's description of itself, against what it does.
mod description;
// The façade in `public`: what each view and function promises.
mod facade;
// With either guard taken away the other still refuses.
mod guards;
// The harness keeps its own promises: isolation, clean-up, real parts.
mod harness;
// The API through the gateways' formats.
mod http;
// Tokens of RDS's IAM authentication.
mod iam;
// Every way to be somebody else.
mod identity;
// How the monitor judges, changed over HTTP.
mod judging;
// What a time-series database scrapes.
mod metrics;
// What pages measured: Lighthouse CI's uploads, budgets, Web Vitals.
mod lighthouse;
// How often a subject may ask, whoever counts.
mod limits;
// Who waits for whom.
mod locks;
// Up, down, again, refused; by psql and by the task.
mod migrations;
// No literal survives a preview.
mod redaction;
// Events, template, configuration and documents do not drift apart.
mod project;
// What is remembered of a large database, against what is true.
mod remembered;
// One release beside the next.
mod releases;
// A part fails, the answer is clear, the next request works.
mod resilience;
// What Secrets Manager can do to a request.
mod secrets;
// Where nothing can be written.
mod standby;
// The server is who it says it is, or there is no connection.
mod tls;
// Thousands of anything, and no look that compares each with each.
mod scale;
// Row-level security, judged as it is.
mod rls;
// Through a pooler in transaction mode, everything works.
mod pgbouncer;
// What `pg_stat_statements` counts, without its secrets.
mod statements;
// A section that fails is empty and named; the others arrive.
mod sections;
// What a sample holds, and what it leaves out when it would cost too much.
mod sampling;
// What is announced, once to whoever listens, whatever fails.
mod notify;
// Several databases, none waiting for another.
mod targets;
// Scheduled work is done once.
mod tasks;
// How often a request goes to the server and back.
mod wire;
// The checks after a migration, and each thing broken.
mod validation;
// Defects seen elsewhere, by name.
mod traps;
// Taken to a newer server by dump and restore and by `pg_upgrade`, everything works there.
mod upgrades;
// How it has been.
mod trends;
// The hours that matter.
mod windows;
// Throw-away databases, secrets, tokens and emulators for the tests above.
mod support;

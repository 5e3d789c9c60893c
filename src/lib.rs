//! pgvigil, a serverless watch over PostgreSQL: the map of the crate.
//!
//! One Lambda binary answers API Gateway and EventBridge. The judgements live in SQL (`migrations/`); this crate is the
//! transport, the clock and the guard.
//!
//! An event comes in through [`event`], [`app`] hands it to [`http`] or [`task`], both ask [`db`], and nothing points
//! back: `http, task → notify → db`. [`config`] alone reads the environment, [`secrets`] alone talks to Secrets Manager,
//! [`notify`] alone to EventBridge, both as [`aws`] says; [`db`] alone opens connections, [`http`] alone knows status codes. [`dashboard`] is the page, which [`http`] hands out.

pub mod app;
pub mod aws;
pub mod config;
pub mod dashboard;
pub mod db;
pub mod event;
pub mod http;
pub mod notify;
pub mod secrets;
pub mod task;
pub mod telemetry;

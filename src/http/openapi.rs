//! `GET /api/monitoring/openapi.json`: the API's own description (`OpenAPI` 3.1).
//!
//! Written by hand beside the code and held to it by tests: every route and parameter is in it, and every answer that a test
//! gets is validated against it.

use super::{Success, identity::Identity, problem::Problem};

/// The document.
const DOCUMENT: &str = include_str!("openapi.json");

/// Answers the document to everybody who is known here.
pub(super) fn get(identity: &Identity) -> Result<Success, Problem> {
    identity.require_role("read monitoring")?;
    Ok(Success::ok(DOCUMENT.to_owned()))
}

//! `GET /api/monitoring/session`: what the token makes of its bearer, so that a page need not guess what to offer.

use std::time::Instant;

use serde_json::json;

use super::{Success, identity::Identity, problem::Problem, response_ms};
use crate::db::Targets;

/// Answers role, rights and the databases there are. Neither asks a database nor counts as a request there.
pub(super) fn get(
    identity: &Identity,
    targets: &Targets,
    started: Instant,
) -> Result<Success, Problem> {
    let role = identity.require_role("read monitoring")?;
    let rights = [
        ("read", true),
        ("record", true),
        ("resolve", role.may_resolve()),
        ("configure", role.may_configure()),
        ("see_people", role.may_see_people()),
    ];
    let may = rights.into_iter().filter(|(_, may)| *may);
    let body = json!({
        "data": {
            "role": role.name(),
            "may": may.map(|(right, _)| right).collect::<Vec<_>>(),
            "targets": targets.list(),
        },
        "metadata": {"responseTime": response_ms(started)},
    });
    Ok(Success::ok(body.to_string()))
}

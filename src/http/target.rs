//! `?target=`: which of the configured databases a request is about.

use super::{identity::Identity, problem::Problem, request};
use crate::{
    db::{Target, Targets},
    event::HttpRequest,
};

const PARAMETER: &str = "target";

/// The database that the request names, or the default one. Only who has a role is told which there are.
pub(super) fn of<'a>(
    targets: &'a Targets,
    request: &HttpRequest,
    identity: &Identity,
) -> Result<Target<'a>, Problem> {
    if !is_named(request) {
        return Ok(targets.default_target());
    }
    identity.require_role("choose a database")?;
    let name = request::parameter(request, PARAMETER)?.unwrap_or_default();
    targets
        .get(name)
        .ok_or_else(|| Problem::invalid(PARAMETER, &format!("must be one of {}", targets.names())))
}

/// Whether the request names one.
pub(super) fn is_named(request: &HttpRequest) -> bool {
    request.query.iter().any(|(name, _)| name == PARAMETER)
}

//! What `lhci upload --target=lhci` asks of its server, and a verdict for the pipeline that ran it.
//!
//! A project's token is the credential, so these routes stand outside the authorizer: the transaction runs as
//! `monitoring_reader` without claims, which may call the functions that ask for the token, and gets nowhere without it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    super::{Access, Success, problem::Problem, request, statement_timeout},
    report,
};
use crate::{
    db::{Database, DbError, DbErrorKind, Query, Session},
    event::HttpRequest,
};

/// Below this everything is Lighthouse CI's.
const PREFIX: &str = "/api/monitoring/lighthouse/";

/// The version of Lighthouse CI's server that this is like; a client asks whether it fits.
const VERSION: &str = "0.15.1";

/// A report is half of that; API Gateway takes ten, and Lambda six of it as JSON.
const MAX_REPORT_BYTES: usize = 5 * 1024 * 1024;

/// Whether a path is one of these.
pub(in super::super) fn is_upload(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The routes there are, with what stands in the path.
#[derive(Debug, Clone, Copy)]
enum Route<'a> {
    Version,
    Lookup,
    Project(&'a str),
    Builds(&'a str),
    Runs(&'a str, &'a str),
    Lifecycle(&'a str, &'a str),
    Verdict(&'a str, &'a str),
}

impl<'a> Route<'a> {
    fn at(path: &'a str) -> Result<Self, Problem> {
        let rest = path.strip_prefix(PREFIX).unwrap_or_default();
        let parts: Vec<&str> = rest.split('/').collect();
        Ok(match *parts.as_slice() {
            ["version"] => Self::Version,
            ["v1", "projects", "lookup"] => Self::Lookup,
            ["v1", "projects", project] => Self::Project(project),
            ["v1", "projects", project, "builds"] => Self::Builds(project),
            ["v1", "projects", project, "builds", build, "runs"] => Self::Runs(project, build),
            ["v1", "projects", project, "builds", build, "lifecycle"] => {
                Self::Lifecycle(project, build)
            }
            ["v1", "projects", project, "builds", build, "verdict"] => {
                Self::Verdict(project, build)
            }
            _ => return Err(Problem::not_found("there is no such route")),
        })
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Version | Self::Project(_) | Self::Verdict(..) => "GET",
            Self::Builds(_) => "GET, POST",
            Self::Lookup | Self::Runs(..) => "POST",
            Self::Lifecycle(..) => "PUT",
        }
    }
}

/// Answers a request of Lighthouse CI's.
pub(in super::super) async fn answer(
    database: &Database,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    let route = Route::at(&request.path)?;
    match (route, request.method.as_str()) {
        (Route::Version, "GET") => Ok(Success::text(
            "text/plain; charset=utf-8",
            VERSION.to_owned(),
        )),
        (Route::Lookup, "POST") => lookup(database, request, access, budget).await,
        (Route::Project(project), "GET") => {
            access.sections = "lighthouse_project".to_owned();
            let query = Query {
                name: "lighthouse_project",
                sql: "select monitoring.lighthouse_project($1, $2)::text",
                params: vec![Some(token(request)?), Some(slug(project))],
            };
            Ok(Success::ok(done(database, &query, budget).await?))
        }
        (Route::Builds(project), "GET") => builds(database, request, project, access, budget).await,
        (Route::Builds(project), "POST") => {
            add_build(database, request, project, access, budget).await
        }
        (Route::Runs(project, build), "POST") => {
            access.sections = "lighthouse_run".to_owned();
            let token = token(request)?;
            let body = request::json_body(request, MAX_REPORT_BYTES, "5 MB")?;
            let query = Query {
                name: "add_lighthouse_run",
                sql: "select monitoring.add_lighthouse_run($1, $2, $3::uuid, $4::jsonb)::text",
                params: vec![
                    Some(token),
                    Some(slug(project)),
                    Some(build_id(build)?),
                    Some(report::run_json(body)?),
                ],
            };
            Ok(Success::created(done(database, &query, budget).await?))
        }
        (Route::Lifecycle(project, build), "PUT") => {
            access.sections = "lighthouse_seal".to_owned();
            let token = token(request)?;
            let body = request::json_body(request, request::MAX_BODY_BYTES, "256 kB")?;
            let lifecycle: Option<String> = serde_json::from_slice(body).ok();
            if lifecycle.as_deref() != Some("sealed") {
                return Err(Problem::invalid_body("the body must be \"sealed\""));
            }
            let query = Query {
                name: "seal_lighthouse_build",
                sql: "select monitoring.seal_lighthouse_build($1, $2, $3::uuid)::text",
                params: vec![Some(token), Some(slug(project)), Some(build_id(build)?)],
            };
            done(database, &query, budget).await?;
            Ok(Success::empty())
        }
        (Route::Verdict(project, build), "GET") => {
            access.sections = "lighthouse_verdict".to_owned();
            let query = Query {
                name: "lighthouse_verdict",
                sql: "select monitoring.lighthouse_verdict($1, $2, $3)::text",
                params: vec![
                    Some(token(request)?),
                    Some(slug(project)),
                    Some(build.to_owned()),
                ],
            };
            Ok(Success::ok(done(database, &query, budget).await?))
        }
        _ => Err(Problem::method_not_allowed(route.allowed())),
    }
}

/// The project whose token the body holds. The client takes 404 for "there is none", and says so in words.
async fn lookup(
    database: &Database,
    request: &HttpRequest,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    access.sections = "lighthouse_lookup".to_owned();
    let fields = request::json_object(request)?;
    let token = request::required_text(&fields, "token")?;
    let unknown = || Problem::not_found("no project has this token");
    if !is_token(&token) {
        return Err(unknown());
    }
    let query = Query {
        name: "lighthouse_lookup",
        sql: "select monitoring.lighthouse_project($1)::text",
        params: vec![Some(token)],
    };
    let project = outcome(database, &query, budget).await;
    let project = project.map_err(|error| {
        if error.is_the_guards_no() {
            unknown()
        } else {
            refused(&error)
        }
    })?;
    Ok(Success::ok(said(&query, &project)?))
}

async fn builds(
    database: &Database,
    request: &HttpRequest,
    project: &str,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    access.sections = "lighthouse_builds".to_owned();
    let word = |name| {
        let value = request::parameter(request, name)?;
        match value {
            Some(value) if value.contains('\0') => {
                Err(Problem::invalid(name, "must not hold a NUL character"))
            }
            value => Ok(value.map(str::to_owned)),
        }
    };
    let limit = word("limit")?;
    let limit = match limit.as_deref().map(str::parse::<u16>) {
        None => 20,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(Problem::invalid("limit", "must be 1 to 100")),
    };
    let query = Query {
        name: "lighthouse_builds",
        sql: "select monitoring.lighthouse_builds($1, $2, $3, $4, $5::int)::text",
        params: vec![
            Some(token(request)?),
            Some(slug(project)),
            word("branch")?,
            word("hash")?,
            Some(limit.to_string()),
        ],
    };
    Ok(Success::ok(done(database, &query, budget).await?))
}

/// Of what the client tells, author, message and avatar are people's and not kept.
async fn add_build(
    database: &Database,
    request: &HttpRequest,
    project: &str,
    access: &mut Access,
    budget: Duration,
) -> Result<Success, Problem> {
    access.sections = "lighthouse_build".to_owned();
    let token = token(request)?;
    let fields = request::json_object(request)?;
    let lifecycle = request::text(&fields, "lifecycle")?;
    if lifecycle.is_some_and(|lifecycle| lifecycle != "unsealed") {
        return Err(Problem::invalid("lifecycle", "must be unsealed"));
    }
    let query = Query {
        name: "add_lighthouse_build",
        sql: "select monitoring.add_lighthouse_build($1, $2, $3, $4)::text",
        params: vec![
            Some(token),
            Some(slug(project)),
            Some(request::required_text(&fields, "branch")?),
            Some(request::required_text(&fields, "hash")?),
        ],
    };
    Ok(Success::created(done(database, &query, budget).await?))
}

/// The token, once it looks like one: nobody asks the database about anything else.
fn token(request: &HttpRequest) -> Result<String, Problem> {
    let mut tokens = request.headers.get_all("x-lhci-build-token").iter();
    let token = tokens.next().and_then(|token| token.to_str().ok());
    match token {
        Some(token) if is_token(token) && tokens.next().is_none() => Ok(token.to_owned()),
        _ => Err(Problem::bad_project_token()),
    }
}

fn is_token(text: &str) -> bool {
    let hex = text.strip_prefix("pgvl_").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A client names a project by its id, or by `slug:` and its slug; a person leaves that out.
fn slug(project: &str) -> String {
    project.strip_prefix("slug:").unwrap_or(project).to_owned()
}

fn build_id(build: &str) -> Result<String, Problem> {
    let is_uuid = build.len() == 36
        && build.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid {
        Ok(build.to_owned())
    } else {
        Err(Problem::not_found("the project has no such build"))
    }
}

/// What the functions answer.
#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow)]
    done: Option<&'a RawValue>,
    wait_seconds: Option<u32>,
    conflict: Option<String>,
}

async fn outcome(database: &Database, query: &Query, budget: Duration) -> Result<String, DbError> {
    let nobody = Session::caller("{}".to_owned(), statement_timeout(budget, 1));
    database.write(&nobody, query).await
}

/// The part of the answer that is for the client.
fn said(query: &Query, answer: &str) -> Result<String, Problem> {
    let outcome: Outcome<'_> = serde_json::from_str(answer).map_err(|_| {
        tracing::error!("{}: its answer could not be read", query.name);
        Problem::internal()
    })?;
    match outcome {
        Outcome {
            wait_seconds: Some(seconds),
            ..
        } => Err(Problem::too_many_requests(seconds)),
        Outcome {
            conflict: Some(conflict),
            ..
        } => Err(Problem::conflict(&conflict)),
        Outcome { done, .. } => Ok(done.map_or("null", RawValue::get).to_owned()),
    }
}

async fn done(database: &Database, query: &Query, budget: Duration) -> Result<String, Problem> {
    let answer = outcome(database, query, budget).await;
    said(query, &answer.map_err(|error| refused(&error))?)
}

fn refused(error: &DbError) -> Problem {
    if error.is_the_guards_no() {
        tracing::info!("refused: {error}");
        return Problem::bad_project_token();
    }
    // So many at once that they wait for each other.
    if error.kind() == DbErrorKind::LockTimeout {
        return Problem::too_many_requests(1);
    }
    Problem::from_database(error, "upload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_or_build_is_not_asked_about() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(is_token(&format!("pgvl_{hex}")));
        for bad in [
            String::new(),
            hex.clone(),
            format!("pgvk_{hex}"),
            format!("pgvl_{hex}0"),
            format!("pgvl_{}\u{0}", &hex[1..]),
        ] {
            assert!(!is_token(&bad), "{bad}");
        }
        assert!(build_id("6f9619ff-8b86-4d01-b42d-00cf4fc964ff").is_ok());
        for bad in [
            "",
            "{6f9619ff-8b86-4d01-b42d-00cf4fc964f}",
            "6f9619ff-8b86-4d01-b42d-00cf4fc964fg",
            "' or true --                        ",
        ] {
            assert!(build_id(bad).is_err(), "{bad}");
        }
    }
}

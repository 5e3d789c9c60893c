//! Transactions: who they run as, what they may take, and how they are sent.

use std::{fmt, time::Duration};

use tokio_postgres::Client;

use super::{Answer, DbError, DbErrorKind, LOCK_TIMEOUT, pipeline};

/// The name under which errors of opening a transaction appear.
pub(super) const BEGIN: &str = "begin";

/// A query with a name; it returns one row with one text.
#[derive(Clone)]
pub struct Query {
    /// What it is called in logs and errors.
    pub name: &'static str,
    /// The statement; parameters arrive as text and are cast there.
    pub sql: &'static str,
    /// The parameters.
    pub params: Vec<Option<String>>,
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({})", self.name)
    }
}

/// Who a transaction runs as, and how long a statement of it may take.
#[derive(Clone)]
pub struct Session {
    role: &'static str,
    claims_json: String,
    statement_timeout: Duration,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.role)
    }
}

impl Session {
    /// A caller of the API: `monitoring_reader` with the claims of the verified token.
    pub fn caller(claims_json: String, statement_timeout: Duration) -> Self {
        Self {
            role: "monitoring_reader",
            claims_json,
            statement_timeout,
        }
    }

    /// A scheduled task: `monitoring_agent`, without claims.
    pub fn agent(statement_timeout: Duration) -> Self {
        Self {
            role: "monitoring_agent",
            claims_json: String::new(),
            statement_timeout,
        }
    }

    /// Whoever signed in, with rights of their own and without claims: for the migrating login.
    pub(super) fn login(statement_timeout: Duration) -> Self {
        Self {
            role: "none",
            claims_json: String::new(),
            statement_timeout,
        }
    }

    /// Runs queries in a read-only transaction, all sent at once; each in a savepoint, so that one that fails leaves the
    /// transaction usable.
    pub(super) async fn read(&self, client: &Client, queries: &[Query]) -> Result<Answer, DbError> {
        let begin = self.begin(", read only");
        let claims = [Some(self.claims_json.clone())];
        let mut steps = vec![
            pipeline::command(client, &begin),
            pipeline::query(client, SET_CLAIMS, &claims),
        ];
        for query in queries {
            steps.push(pipeline::command(client, "savepoint section"));
            steps.push(pipeline::query(client, query.sql, &query.params));
            // Read-only, so there is nothing to lose: the same statement ends a section that went well.
            steps.push(pipeline::command(client, "rollback to savepoint section"));
        }
        steps.push(pipeline::command(client, "commit"));

        let mut answers = pipeline::run(steps).await.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(None));
        let timestamp_json = opened(next(), next())?;
        let mut results = Vec::with_capacity(queries.len());
        for query in queries {
            let (savepoint, result, rollback) = (next(), next(), next());
            // A lost connection, unlike a failed query, fails these two as well.
            savepoint
                .and(rollback)
                .map_err(|error| DbError::from_driver(query.name, &error))?;
            results.push(text_of(query.name, result));
        }
        next().map_err(|error| DbError::from_driver("commit", &error))?;
        Ok(Answer {
            timestamp_json,
            results,
        })
    }

    /// Runs one query in a transaction that writes. Its beginning is waited for: if the connection turns out to be gone
    /// there, nothing was sent that could have been done.
    pub(super) async fn write(&self, client: &Client, query: &Query) -> Result<String, DbError> {
        // Not "read write", which a standby refuses: there the statement itself finds what it can do.
        let begin = self.begin("");
        pipeline::command(client, &begin)
            .await
            .map_err(|error| session_error(&error))?;
        let claims = [Some(self.claims_json.clone())];
        let steps = vec![
            pipeline::query(client, SET_CLAIMS, &claims),
            pipeline::query(client, query.sql, &query.params),
            pipeline::command(client, "commit"),
        ];
        let mut answers = pipeline::run(steps).await.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(None));
        let claimed = next().map_err(|error| DbError::from_driver("claims", &error));
        let result = text_of(query.name, next());
        let committed = next().map_err(|error| DbError::from_driver("commit", &error));
        // After an error COMMIT rolls back and says no error, so the query's comes first.
        claimed.and(result).and_then(|text| committed.map(|_| text))
    }

    fn begin(&self, access: &str) -> String {
        format!(
            "begin isolation level read committed{access}; \
             set local statement_timeout = {}; set local lock_timeout = {}; \
             set local idle_in_transaction_session_timeout = 10000; set local timezone = 'UTC'; \
             set local role {}",
            self.statement_timeout.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            self.role,
        )
    }
}

/// Makes the claims known to row-level security for this transaction, as PostgREST does, and blanks what other helpers
/// would read before them: Supabase's `auth.uid()` prefers the legacy `request.jwt.claim.sub`.
const SET_CLAIMS: &str = "select to_json(now())::text, \
     set_config('request.jwt.claims', $1, true), set_config('request.jwt.claim', '', true), \
     set_config('request.jwt.claim.sub', '', true), set_config('request.jwt.claim.role', '', true), \
     set_config('request.jwt.claim.email', '', true)";

type StepAnswer = Result<Option<String>, tokio_postgres::Error>;

fn opened(begun: StepAnswer, claimed: StepAnswer) -> Result<String, DbError> {
    begun.map_err(|error| session_error(&error))?;
    text_of("claims", claimed)
}

/// A role that cannot be taken is the operator's mistake, not the caller's lack of rights.
fn session_error(error: &tokio_postgres::Error) -> DbError {
    let error = DbError::from_driver(BEGIN, error);
    match error.kind() {
        DbErrorKind::Permission | DbErrorKind::Invalid => DbError::new(BEGIN, DbErrorKind::Missing)
            .with_message("run the migrations, then grant monitoring_reader and monitoring_agent to the login role"),
        _ => error,
    }
}

fn text_of(name: &'static str, answer: StepAnswer) -> Result<String, DbError> {
    match answer {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(DbError::new(name, DbErrorKind::Query).with_message("it returned nothing")),
        Err(error) => Err(DbError::from_driver(name, &error)),
    }
}

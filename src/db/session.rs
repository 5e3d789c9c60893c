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
    turn: Option<Turn>,
}

/// A request that is counted against its subject's limit before anything else is done for it.
#[derive(Clone)]
struct Turn {
    method: &'static str,
    request: String,
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
            turn: None,
        }
    }

    /// Counts the request against what the caller's subject may ask in a minute: `GET` or `POST`, under a name that no other
    /// request has. Where it is one too many, nothing else is done and the error is [`DbErrorKind::TooMany`].
    pub fn counted(self, method: &'static str, request: String) -> Self {
        Self {
            turn: Some(Turn { method, request }),
            ..self
        }
    }

    /// A scheduled task: `monitoring_agent`, without claims.
    pub fn agent(statement_timeout: Duration) -> Self {
        Self {
            role: "monitoring_agent",
            claims_json: String::new(),
            statement_timeout,
            turn: None,
        }
    }

    /// Whoever signed in, with rights of their own and without claims: for the migrating login.
    pub(super) fn login(statement_timeout: Duration) -> Self {
        Self {
            role: "none",
            claims_json: String::new(),
            statement_timeout,
            turn: None,
        }
    }

    /// Runs queries in a read-only transaction, all sent at once; after each, back to a savepoint, so that one that fails leaves
    /// the transaction usable.
    pub(super) async fn read(&self, client: &Client, queries: &[Query]) -> Result<Answer, DbError> {
        let (begin, counting) = (self.begin(", read only"), self.counting());
        let claims = [Some(self.claims_json.clone())];
        let turn = self.turn.as_ref().map(Turn::params);
        let mut steps = counting_steps(client, &counting, &claims, turn.as_ref());
        steps.push(pipeline::command(client, &begin));
        steps.push(pipeline::query(client, SET_CLAIMS, &claims));
        if let Some(turn) = &turn {
            steps.push(pipeline::query(client, REQUIRE_TURN, turn));
        }
        // One for all of them: rolling back to it leaves it there, and a second of that name would be nested in it.
        steps.push(pipeline::command(client, "savepoint section"));
        for query in queries {
            steps.push(pipeline::query(client, query.sql, &query.params));
            // Read-only, so there is nothing to lose: the same statement ends a section that went well.
            steps.push(pipeline::command(client, "rollback to savepoint section"));
        }
        steps.push(pipeline::command(client, "commit"));

        let mut answers = pipeline::run(steps).await.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(None));
        if turn.is_some() {
            counted(&mut next)?;
        }
        let timestamp_json = opened(next(), next())?;
        if turn.is_some() {
            next().map_err(|error| DbError::from_driver(TAKE_TURN, &error))?;
        }
        next().map_err(|error| DbError::from_driver("savepoint", &error))?;
        let mut results = Vec::with_capacity(queries.len());
        for query in queries {
            let (result, rollback) = (next(), next());
            // A lost connection, unlike a failed query, fails this as well.
            rollback.map_err(|error| DbError::from_driver(query.name, &error))?;
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
        let (begin, counting) = (self.begin(""), self.counting());
        let claims = [Some(self.claims_json.clone())];
        let turn = self.turn.as_ref().map(Turn::params);
        let mut steps = counting_steps(client, &counting, &claims, turn.as_ref());
        steps.push(pipeline::command(client, &begin));
        let mut answers = pipeline::run(steps).await.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(None));
        let turn_taken = turn.as_ref().map_or(Ok(()), |_| counted(&mut next));
        let begun = next().map_err(|error| session_error(&error));
        if let (Err(_), Ok(_)) = (&turn_taken, &begun) {
            // What was begun for it is ended.
            let ended = pipeline::command(client, "rollback").await;
            ended.map_err(|error| DbError::from_driver("rollback", &error))?;
        }
        turn_taken.and(begun)?;
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

    /// Opens the transaction of its own in which a request is counted. Its row is unlogged: there is nothing to wait for.
    fn counting(&self) -> String {
        self.begin("") + "; set local synchronous_commit = off"
    }

    fn begin(&self, access: &str) -> String {
        format!(
            "begin isolation level read committed{access}; \
             set local statement_timeout = {}; set local lock_timeout = {}; \
             set local idle_in_transaction_session_timeout = 10000; set local timezone = 'UTC'; \
             set local search_path = pg_catalog, pg_temp; set local role {}",
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

/// The name under which errors of counting a request appear.
const TAKE_TURN: &str = "take_turn";

/// Null where the request may go on, else the seconds to wait.
const COUNT: &str = "select monitoring.take_turn($1, $2)::text";

/// What is sent with it does not know its answer yet.
const REQUIRE_TURN: &str = "select monitoring.require_turn($1, $2)::text";

impl Turn {
    fn params(&self) -> [Option<String>; 2] {
        [Some(self.method.to_owned()), Some(self.request.clone())]
    }
}

/// A short transaction before the one that does the work, so that the row of the subject is not locked for as long as that.
/// Through a transaction pooler it may be another session's: only the request's name connects the two.
fn counting_steps<'a>(
    client: &'a Client,
    begin: &'a str,
    claims: &'a [Option<String>],
    turn: Option<&'a [Option<String>; 2]>,
) -> Vec<pipeline::Step<'a>> {
    let Some(turn) = turn else {
        return Vec::new();
    };
    vec![
        pipeline::command(client, begin),
        pipeline::query(client, SET_CLAIMS, claims),
        pipeline::query(client, COUNT, turn),
        pipeline::command(client, "commit"),
    ]
}

/// Reads the answers to those.
fn counted(next: &mut impl FnMut() -> StepAnswer) -> Result<(), DbError> {
    let (begun, claimed, turn, committed) = (next(), next(), next(), next());
    begun.map_err(|error| session_error(&error))?;
    claimed.map_err(|error| DbError::from_driver("claims", &error))?;
    let turn = turn.map_err(|error| DbError::from_driver(TAKE_TURN, &error));
    let wait_seconds = match turn {
        // So many at once that they wait for each other.
        Err(error) if error.kind() == DbErrorKind::LockTimeout => Some("1".to_owned()),
        turn => turn?,
    };
    committed.map_err(|error| DbError::from_driver("commit", &error))?;
    match wait_seconds {
        None => Ok(()),
        Some(seconds) => Err(DbError::too_many(TAKE_TURN, seconds.parse().unwrap_or(60))),
    }
}

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

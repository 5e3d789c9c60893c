//! What can go wrong with the database, told once from SQLSTATE.
//!
//! A driver's message can repeat values of a statement and its DETAIL whole rows, so neither is kept. What is kept is the
//! query's name, the SQLSTATE and, where the error was raised by our own SQL, the message we wrote there.

use std::{error::Error as _, fmt};

use tokio_postgres::error::{DbError as ServerError, SqlState};

use super::session::BEGIN;
use crate::secrets::SecretError;

/// An error of the database or on the way to it.
#[derive(Debug)]
pub struct DbError {
    query: &'static str,
    kind: DbErrorKind,
    sqlstate: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    wait_seconds: Option<u32>,
}

/// What kind of error it is: all that callers decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DbErrorKind {
    /// No connection could be opened: address, TLS, too many connections, starting up.
    Connect,
    /// The connection broke or was ended by the server.
    Closed,
    /// The login was refused, with a freshly fetched secret too.
    Authentication,
    /// The secret with the login could not be used.
    Secret,
    /// The statement took longer than allowed.
    Timeout,
    /// A lock was not to be had in time.
    LockTimeout,
    /// The caller's role may not do this: the guard's no, or a missing grant.
    Permission,
    /// Something that must exist does not: the schema is not migrated.
    Missing,
    /// The server is a standby or the transaction read-only.
    ReadOnly,
    /// The caller has asked too often; [`DbError::wait_seconds`] says when to ask again.
    TooMany,
    /// An argument was refused; the message says which and why.
    Invalid,
    /// What the call is about does not exist.
    NotFound,
    /// Anything else.
    Query,
}

impl DbError {
    /// An error told from the driver's.
    pub(crate) fn from_driver(query: &'static str, error: &tokio_postgres::Error) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::from_server(query, server);
        }
        let kind = if error.is_closed() || has_io_source(error) {
            DbErrorKind::Closed
        } else {
            DbErrorKind::Query
        };
        Self::new(query, kind)
    }

    /// An error while connecting, where every failure means that there is no connection.
    pub(crate) fn from_connect(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(server) => {
                let mut error = Self::from_server("connect", server);
                if error.kind != DbErrorKind::Authentication {
                    error.kind = DbErrorKind::Connect;
                }
                error.message = error
                    .sqlstate
                    .as_deref()
                    .and_then(connect_refusal)
                    .map(str::to_owned);
                error
            }
            // Without the server's word this is the driver's, the resolver's or the TLS library's: no values in it.
            None => Self {
                message: Some(reason_chain(error)),
                ..Self::new("connect", DbErrorKind::Connect)
            },
        }
    }

    pub(crate) fn from_secret(error: &SecretError) -> Self {
        Self {
            message: Some(error.to_string()),
            ..Self::new("credentials", DbErrorKind::Secret)
        }
    }

    pub(crate) fn new(query: &'static str, kind: DbErrorKind) -> Self {
        Self {
            query,
            kind,
            sqlstate: None,
            message: None,
            hint: None,
            wait_seconds: None,
        }
    }

    /// The caller's subject has used up its minute; there is room again after so many seconds.
    pub(crate) fn too_many(query: &'static str, wait_seconds: u32) -> Self {
        Self {
            wait_seconds: Some(wait_seconds),
            ..Self::new(query, DbErrorKind::TooMany)
        }
    }

    /// An answer of our own SQL that is not what it promises.
    pub(crate) fn unreadable(query: &'static str) -> Self {
        Self::new(query, DbErrorKind::Query).with_message("its answer could not be read")
    }

    pub(crate) fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    fn from_server(query: &'static str, server: &ServerError) -> Self {
        let mut error = Self::new(query, kind_of(server.code()));
        error.sqlstate = Some(server.code().code().to_owned());
        // RAISE in PL/pgSQL: the only server messages whose words are ours.
        if server.routine() == Some("exec_stmt_raise") {
            error.message = Some(server.message().to_owned());
            error.hint = server.hint().map(str::to_owned);
        }
        error
    }

    /// What kind of error it is.
    pub fn kind(&self) -> DbErrorKind {
        self.kind
    }

    /// Whether the transaction is known to be over and the connection good for the next. Not so where it could not even
    /// begin, and not where the server is no longer the one that can write.
    pub(crate) fn leaves_connection_usable(&self) -> bool {
        self.query != BEGIN
            && !matches!(
                self.kind,
                DbErrorKind::Closed | DbErrorKind::Connect | DbErrorKind::ReadOnly
            )
    }

    /// Whether the database was not there to answer: no login, no connection, or one that broke.
    pub(crate) fn is_without_answer(&self) -> bool {
        matches!(
            self.kind,
            DbErrorKind::Connect
                | DbErrorKind::Closed
                | DbErrorKind::Authentication
                | DbErrorKind::Secret
        )
    }

    /// Whether it is certain that nothing was done, and likely that another connection can do it.
    pub(crate) fn is_before_any_work(&self) -> bool {
        self.kind == DbErrorKind::ReadOnly
            || self.kind == DbErrorKind::Closed && self.query == BEGIN
    }

    /// Whether the schema lacks what this binary asks for, and not just this login a role.
    pub(crate) fn is_outdated_schema(&self) -> bool {
        self.kind == DbErrorKind::Missing && self.query != BEGIN
    }

    /// Whether the guard said no, in words of ours. A grant that is missing says no as well, but not to this caller: it is the
    /// operator's to mend.
    pub(crate) fn is_the_guards_no(&self) -> bool {
        self.kind == DbErrorKind::Permission && self.message.is_some()
    }

    /// The name of the query that failed.
    pub fn query(&self) -> &'static str {
        self.query
    }

    /// The five characters the server answered, where it answered.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// After how many seconds there is room for another request, where there were too many.
    pub fn wait_seconds(&self) -> Option<u32> {
        self.wait_seconds
    }

    /// Our own words for it, where the error was raised by our SQL or on the way to the server.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.query, self.kind.words())?;
        if let Some(sqlstate) = &self.sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " Hint: {hint}")?;
        } else if self.is_outdated_schema() {
            f.write_str(" Hint: the task migrate brings the schema up to date")?;
        }
        Ok(())
    }
}

impl std::error::Error for DbError {}

impl DbErrorKind {
    /// A phrase for logs and reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Connect => "no connection",
            Self::Closed => "connection lost",
            Self::Authentication => "login refused",
            Self::Secret => "no credentials",
            Self::Timeout => "timed out",
            Self::LockTimeout => "waited too long for a lock",
            Self::Permission => "permission denied",
            Self::Missing => "not migrated, or not granted to this login",
            Self::ReadOnly => "the server is read-only",
            Self::TooMany => "too many requests",
            Self::Invalid => "argument refused",
            Self::NotFound => "not found",
            Self::Query => "failed",
        }
    }
}

/// The classes and conditions of the manual's appendix "PostgreSQL Error Codes".
fn kind_of(code: &SqlState) -> DbErrorKind {
    match code.code() {
        "28000" | "28P01" => DbErrorKind::Authentication,
        "57014" => DbErrorKind::Timeout,
        "55P03" => DbErrorKind::LockTimeout,
        "42501" => DbErrorKind::Permission,
        "42P01" | "42883" | "42703" | "3F000" | "42704" => DbErrorKind::Missing,
        "25006" => DbErrorKind::ReadOnly,
        "PV429" => DbErrorKind::TooMany, // monitoring.require_turn()
        "P0002" => DbErrorKind::NotFound,
        // 54001: JSON nested deeper than the server's stack; 22*: data exceptions, 23*: integrity constraints.
        "54001" => DbErrorKind::Invalid,
        // 57P01 to 57P03: shutdown, crash, starting up. 53300: too many connections. 25P03: idle in transaction too long.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" => DbErrorKind::Closed,
        code if code.starts_with("08") => DbErrorKind::Closed,
        code if code.starts_with("22") || code.starts_with("23") => DbErrorKind::Invalid,
        _ => DbErrorKind::Query,
    }
}

/// What the server's refusal to connect means, in words without the names it was asked for.
fn connect_refusal(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "08P01" => {
            "a connection pooler refused: a wrong password, too many clients, or no server; its log says which"
        }
        "3D000" => "there is no such database",
        "53300" => "there are too many connections",
        "55000" => "the database accepts no connections",
        "57P03" => "the server is starting up or shutting down",
        _ => return None,
    })
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

fn reason_chain(error: &tokio_postgres::Error) -> String {
    let mut reasons = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let reason = cause.to_string();
        if !reasons.iter().any(|known| known.contains(&reason)) {
            reasons.push(reason);
        }
        source = cause.source();
    }
    reasons.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_their_kinds() {
        for (code, kind) in [
            ("28P01", DbErrorKind::Authentication),
            ("57014", DbErrorKind::Timeout),
            ("55P03", DbErrorKind::LockTimeout),
            ("42501", DbErrorKind::Permission),
            ("42P01", DbErrorKind::Missing),
            ("25006", DbErrorKind::ReadOnly),
            ("57P01", DbErrorKind::Closed),
            ("08006", DbErrorKind::Closed),
            ("22P02", DbErrorKind::Invalid),
            ("23514", DbErrorKind::Invalid),
            ("XX000", DbErrorKind::Query),
        ] {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }
}

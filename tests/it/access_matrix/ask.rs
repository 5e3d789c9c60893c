//! One caller tries one action: what came of it, in a word.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::objects::{Action, Sign, Try};

/// What a cell of the files says. The order is from the tightest to the boldest.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Outcome {
    /// 42501 without the privilege.
    Denied,
    /// 42501 with the privilege, because the schema is closed to the caller.
    Shut,
    /// 42501 with the privilege, from inside the object.
    Refused(&'static str),
    /// Let in, and stopped by something else.
    Failed(String),
    /// It worked and gave no row.
    None,
    /// It worked and answered false or null.
    False,
    Yes,
}

impl Outcome {
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Denied => ".",
            Self::Shut => "shut",
            Self::Refused(by) => by,
            Self::Failed(code) => code,
            Self::None => "none",
            Self::False => "false",
            Self::Yes => "yes",
        }
    }
}

/// What comes of every action, in the same order: of an action's tries the boldest.
pub(super) async fn outcomes(client: &Client, actions: &[Action]) -> Vec<Outcome> {
    let tries: Vec<&Try> = actions.iter().flat_map(|action| &action.tries).collect();
    let privileges = held(
        client,
        tries.iter().map(|attempt| attempt.privilege.as_str()),
    )
    .await;
    let usages = held(client, tries.iter().map(|attempt| attempt.usage.as_str())).await;
    let mut rights = privileges.into_iter().zip(usages);
    let mut outcomes = Vec::with_capacity(actions.len());
    for action in actions {
        let mut boldest = Outcome::Denied;
        for (attempt, rights) in action.tries.iter().zip(&mut rights) {
            boldest = boldest.max(outcome(client, attempt, rights).await);
        }
        outcomes.push(boldest);
    }
    outcomes
}

/// Which of these expressions are true for the caller.
async fn held(client: &Client, expressions: impl Iterator<Item = &str>) -> Vec<bool> {
    let expressions: Vec<&str> = expressions.collect();
    let sql = format!("select array[{}]", expressions.join(", "));
    let held = client.query_one(&sql, &[]).await;
    held.expect("asking for privileges").get(0)
}

/// Tries it in a transaction that is rolled back; the three statements travel together.
async fn outcome(client: &Client, attempt: &Try, (privilege, usage): (bool, bool)) -> Outcome {
    let (begun, answer, ended) = tokio::join!(
        client.batch_execute("begin"),
        client.simple_query(&attempt.sql),
        client.batch_execute("rollback"),
    );
    begun.expect("beginning");
    ended.expect("rolling back");
    let error = match answer {
        Ok(answer) => return success(attempt.sign, &answer, usage),
        Err(error) => error,
    };
    let error = error
        .as_db_error()
        .unwrap_or_else(|| panic!("{}: {error:?}", attempt.sql));
    match (error.code().code(), error.message()) {
        ("42501", _) if !privilege => Outcome::Denied,
        ("42501", _) if !usage => Outcome::Shut,
        ("42501", message) if message.starts_with("permission denied: the caller may not") => {
            Outcome::Refused("guard")
        }
        ("42501", message) if message.contains("row-level security") => Outcome::Refused("rls"),
        ("42501", _) => Outcome::Refused("inner"),
        (code, _) => Outcome::Failed(code.to_owned()),
    }
}

fn success(sign: Sign, answer: &[SimpleQueryMessage], usage: bool) -> Outcome {
    let is_true = answer.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => matches!(row.try_get(0), Ok(Some("t"))),
        _ => false,
    });
    let has_rows = answer
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::CommandComplete(1..)));
    match sign {
        Sign::Rows if !has_rows => Outcome::None,
        Sign::Truth if !is_true => Outcome::False,
        Sign::Held if !is_true => Outcome::Denied,
        Sign::Held if !usage => Outcome::Shut,
        _ => Outcome::Yes,
    }
}

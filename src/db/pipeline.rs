//! Sending several statements before waiting for the first answer.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use tokio_postgres::{Client, Error, types::Type};

/// One statement of a pipeline: its answer is the text of the first column of its only row, if it returns one.
pub(super) type Step<'a> = Pin<Box<dyn Future<Output = Result<Option<String>, Error>> + Send + 'a>>;

/// Statements in the simple protocol, without parameters, separated by semicolons.
pub(super) fn command<'a>(client: &'a Client, sql: &'a str) -> Step<'a> {
    Box::pin(async move { client.batch_execute(sql).await.map(|()| None) })
}

/// One statement with text parameters in the extended protocol, unnamed: a transaction pooler may give each transaction
/// to another server connection, where a named statement would not be known.
pub(super) fn query<'a>(
    client: &'a Client,
    sql: &'a str,
    params: &'a [Option<String>],
) -> Step<'a> {
    Box::pin(async move {
        let typed: Vec<_> = params
            .iter()
            .map(|value| {
                (
                    value as &(dyn tokio_postgres::types::ToSql + Sync),
                    Type::TEXT,
                )
            })
            .collect();
        let row = client.query_typed_opt(sql, &typed).await?;
        row.map_or(Ok(None), |row| row.try_get(0))
    })
}

/// Runs steps in order in one round trip and returns all their answers.
///
/// The driver sends a statement when its future is first polled and hands out answers in the order of sending; so every
/// future is polled once, in order, before any is waited for.
pub(super) async fn run(steps: Vec<Step<'_>>) -> Vec<Result<Option<String>, Error>> {
    let mut steps: Vec<_> = steps.into_iter().map(|step| (step, None)).collect();
    poll_fn(|context| {
        let mut all_done = true;
        for (step, answer) in &mut steps {
            if answer.is_none() {
                match step.as_mut().poll(context) {
                    Poll::Ready(ready) => *answer = Some(ready),
                    Poll::Pending => all_done = false,
                }
            }
        }
        if all_done {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    steps.into_iter().filter_map(|(_, answer)| answer).collect()
}

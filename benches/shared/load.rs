//! What other sessions do while the monitor looks: execute, wait, forget a transaction, idle.

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::scale::Scale;
use crate::support::database::TestDatabase;
use crate::support::templates::SUPABASE_OWNER;
use crate::support::wait::wait_until;

/// The table that is waited for.
const CONTESTED: &str = "public.contested_counters";

/// The sessions. They end with the server.
#[derive(Debug)]
pub(crate) struct Load {
    _idle: Vec<Client>,
    _busy: Vec<JoinHandle<()>>,
}

/// Opens the scale's connections, and returns when the server shows them doing what they should.
pub(crate) async fn start(database: &TestDatabase, scale: &Scale) -> Load {
    let superuser = database.superuser().await;
    let create = format!("create table {CONTESTED} (id int primary key, counter int)");
    superuser
        .batch_execute(&format!(
            "{create}; alter table {CONTESTED} owner to {SUPABASE_OWNER}"
        ))
        .await
        .expect("creating a table");
    let (mut idle, mut busy) = (Vec::new(), Vec::new());
    for n in 0..scale.connections {
        let client = database.session(SUPABASE_OWNER).await;
        match n {
            // The head of the queue. Not ACCESS EXCLUSIVE: what that does to the monitor is measured on its own.
            0 => {
                let lock = format!("begin; lock table {CONTESTED} in share row exclusive mode");
                client.batch_execute(&lock).await.expect("taking a lock");
                idle.push(client);
            }
            n if n < scale.idle_in_transaction => {
                let begin = format!("begin; {}", long_statement(n, 0));
                let begun = client.batch_execute(&begin).await;
                begun.expect("beginning a transaction");
                idle.push(client);
            }
            n if n < scale.idle_in_transaction + scale.active => {
                let statement = if n < scale.idle_in_transaction + scale.waiting {
                    format!("update {CONTESTED} set counter = counter + {n} where id = {n}")
                } else {
                    long_statement(n, 7200)
                };
                busy.push(tokio::spawn(async move {
                    // It ends when the server does.
                    let _ = client.batch_execute(&statement).await;
                }));
            }
            n => {
                let run = client.batch_execute(&long_statement(n, 0)).await;
                run.expect("executing a statement");
                idle.push(client);
            }
        }
    }
    let wanted =
        [scale.active, scale.waiting].map(|count| i64::try_from(count).expect("counting sessions"));
    wait_until("the sessions do what they should", async || {
        let seen = superuser
            .query_one(
                "select count(*) filter (where state = 'active'), count(*) filter (where wait_event_type = 'Lock') \
                 from pg_stat_activity where usename = $1",
                &[&SUPABASE_OWNER],
            )
            .await
            .expect("watching the sessions");
        [seen.get::<_, i64>(0), seen.get(1)] == wanted
    })
    .await;
    Load {
        _idle: idle,
        _busy: busy,
    }
}

/// A statement of half a kilobyte to more than the server keeps of one, full of literals of every kind, that sleeps.
fn long_statement(n: usize, seconds: usize) -> String {
    let numbers: Vec<String> = (0..20 + n % 4 * 60)
        .map(|m| (n * 97 + m * 13).to_string())
        .collect();
    format!(
        "select pg_sleep({seconds}), 'customer-{n}@example.com' as email, 42.{n} as amount, E'it\\'s {n}' as note, \
         $tag$a body {n}$tag$ as body, \"orders\".\"id\" as order_id, /* service=checkout, request={n} */ \
         'EU-west-{n}' || '/' || 'shelf {n}' as place, now() - interval '{n} minutes' as since \
         from generate_series(1, 1) as orders (id) \
         where orders.id in (1, {numbers}) and 'hunter{n}' <> 'secret value' and x'1F' <> b'101' \
         -- the last word on request {n}\n and orders.id::text not like '%name-{n}%'",
        numbers = numbers.join(", "),
    )
}

//! What a migration that holds a table does to whoever looks.

use serde_json::json;

use crate::asker::Asker;
use crate::measure::{MEDIAN, P95, Probe, Series};
use crate::report::{Report, ms, print, table, words};
use crate::scale::Scale;
use crate::support::database::TestDatabase;
use crate::views::View;

const ROUNDS: usize = 8;

/// Asks each view while nobody holds the largest table, and while somebody does in ACCESS EXCLUSIVE, in turns.
pub(crate) async fn run(
    database: &TestDatabase,
    scale: &Scale,
    views: Vec<View>,
    report: &mut Report,
) {
    let superuser = database.superuser().await;
    let largest = "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace \
                   order by relpages desc, oid limit 1";
    let largest = superuser.query_one(largest, &[]).await;
    let largest: String = largest.expect("looking for the largest table").get(0);
    let holder = Probe::new(superuser).await;
    let preparer = Probe::new(database.superuser().await).await;
    let lock = format!("begin; lock table {largest} in access exclusive mode");

    let mut lines = Vec::new();
    for view in views {
        let asker = Asker::new(database, view.caller).await;
        lines.push((view, asker, Series::new(), Series::new()));
    }
    for round in 0..=ROUNDS {
        for is_held in [false, true] {
            if is_held {
                holder.prepare(&lock).await;
            }
            for (view, asker, free, held) in &mut lines {
                let Some(sql) = view.sql else { continue };
                preparer.prepare(view.before).await;
                let call = asker.call(sql).await;
                if call.count < view.at_least {
                    report.problem(format!(
                        "{}, a table locked: {} rows",
                        view.name, call.count
                    ));
                }
                let series = if is_held { held } else { free };
                series.push_if(round > 0, call);
            }
            if is_held {
                holder.prepare("rollback").await;
            }
        }
    }

    print(&format!(
        "\n{}: wall ms while ACCESS EXCLUSIVE is held on {largest}\n",
        scale.name
    ));
    let mut rows = vec![words(&["view", "free", "p95", "held", "p95"])];
    for (view, _, free, held) in &lines {
        let times = [
            free.wall(MEDIAN),
            free.wall(P95),
            held.wall(MEDIAN),
            held.wall(P95),
        ];
        rows.push([vec![view.name.to_owned()], times.map(ms).to_vec()].concat());
        report.json(&json!({
            "part": "locked", "database": scale.name, "view": view.name,
            "free_wall_median_ms": times[0], "free_wall_p95_ms": times[1],
            "held_wall_median_ms": times[2], "held_wall_p95_ms": times[3],
        }));
    }
    table(&rows);
}

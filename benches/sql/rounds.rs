//! Rounds: each view, its floor and its naive form once a round, so that whatever disturbs the machine hits all alike.

use crate::asker::Asker;
use crate::measure::{Call, Probe, Series};
use crate::report::Report;
use crate::scale::{Scale, cold_rounds};
use crate::support::database::TestDatabase;
use crate::views::View;

/// Rounds before the first that counts.
const WARM_UP: usize = 3;

/// Every so many rounds the rows are sent as well.
const SENT_EVERY: usize = 4;

/// What a view took, and what it is compared with.
pub(crate) struct Line {
    pub(crate) view: View,
    /// As the answer to the last call.
    pub(crate) count: Option<i64>,
    /// After everything else of the round.
    pub(crate) own: Series,
    /// Once more at once, of what asking does not change.
    pub(crate) again: Series,
    pub(crate) sent: Series,
    pub(crate) cold: Series,
    pub(crate) floor: Series,
    pub(crate) naive: Series,
}

/// Measures the views, on sessions of their own that stay, and on a new one for each cold call.
pub(crate) async fn run(
    database: &TestDatabase,
    scale: &Scale,
    views: Vec<View>,
    report: &mut Report,
) -> Vec<Line> {
    let preparer = Probe::new(database.superuser().await).await;
    let mut lines = Vec::new();
    let mut others = Vec::new();
    for view in views {
        for &sql in view.floor.iter().chain(&view.naive) {
            if !others.iter().any(|other: &Other| other.sql == sql) {
                others.push(Other::new(sql, database).await);
            }
        }
        let asker = Asker::new(database, view.caller).await;
        lines.push((Line::new(view), asker));
    }
    for round in 0..WARM_UP + scale.rounds() {
        let counts = round >= WARM_UP;
        for (line, asker) in &mut lines {
            if let Some(sql) = line.view.sql {
                preparer.prepare(line.view.before).await;
                let call = asker.call(sql).await;
                line.check(call, report);
                line.own.push_if(counts, call);
                if line.view.is_repeatable {
                    let call = asker.call(sql).await;
                    line.check(call, report);
                    line.again.push_if(counts, call);
                }
            }
            // Formatting and sending is not what is judged: a few calls tell it.
            if let Some(sql) = line.view.sent.filter(|_| round % SENT_EVERY == 0) {
                let call = asker.call(sql).await;
                line.sent.push_if(counts, call);
            }
            // What several views are compared with is asked after the first of them.
            for &sql in line.view.floor.iter().chain(&line.view.naive) {
                let other = others.iter_mut().find(|other| other.sql == sql);
                if let Some(other) = other.filter(|other| other.asked == round) {
                    let call = other.probe.call(sql).await;
                    other.series.push_if(counts, call);
                    other.asked += 1;
                }
            }
        }
    }
    let series_of = |sql: &str| {
        let other = others.iter().find(|other| other.sql == sql);
        other.map_or_else(Series::new, |other| other.series.clone())
    };
    for (line, _) in &mut lines {
        line.floor = line.view.floor.map_or_else(Series::new, series_of);
        let naive = line.view.naive.iter().map(|sql| series_of(sql));
        line.naive = naive
            .reduce(|sum, each| sum.plus(&each))
            .unwrap_or_else(Series::new);
    }
    let mut lines: Vec<Line> = lines.into_iter().map(|(line, _)| line).collect();
    for _ in 0..cold_rounds() {
        for line in &mut lines {
            if let Some(sql) = line.view.sql {
                preparer.prepare(line.view.before).await;
                let call = Asker::new(database, line.view.caller).await.call(sql).await;
                line.check(call, report);
                line.cold.push(call);
            }
        }
    }
    lines
}

/// A floor or a naive form, on a session of its own.
struct Other {
    sql: &'static str,
    probe: Probe,
    series: Series,
    /// In how many rounds it was asked.
    asked: usize,
}

impl Other {
    async fn new(sql: &'static str, database: &TestDatabase) -> Self {
        Self {
            sql,
            probe: Probe::new(database.superuser().await).await,
            series: Series::new(),
            asked: 0,
        }
    }
}

impl Line {
    fn new(view: View) -> Self {
        Self {
            view,
            count: None,
            own: Series::new(),
            again: Series::new(),
            sent: Series::new(),
            cold: Series::new(),
            floor: Series::new(),
            naive: Series::new(),
        }
    }

    fn check(&mut self, call: Call, report: &mut Report) {
        self.count = Some(call.count);
        let (name, least) = (self.view.name, self.view.at_least);
        if call.count < least {
            report.problem(format!(
                "{name}: {} where at least {least} was to be seen",
                call.count
            ));
        }
    }
}

//! Rounds: everything once a round, so that whatever disturbs the machine hits all alike.

use crate::answers::sections_of;
use crate::function::{Answered, Function, ask_inside};
use crate::measure::Series;
use crate::replay::{Recording, Replayer};
use crate::report::Report;
use crate::requests::{GETS, Get, PERFORMANCE, new_subject, preflight};
use crate::scale::{Scale, cold_rounds};
use crate::support::app::TestApp;
use crate::support::database::TestDatabase;
use crate::support::{description, templates::MONITOR};

/// Rounds before the first that counts.
const WARM_UP: usize = 3;

/// What is found out about a database.
pub(crate) struct Measured {
    pub(crate) lines: Vec<Line>,
    pub(crate) preflight: Series,
    /// From the start of the process to its first answer, and the CPU it took: to a preflight, then to the full GET.
    pub(crate) cold_preflight: Series,
    pub(crate) cold: Series,
    pub(crate) peak_memory_kb: Option<u64>,
}

/// A GET, compressed or not.
pub(crate) struct Line {
    pub(crate) get: Get,
    pub(crate) is_gzip: bool,
    pub(crate) statements: Series,
    /// What the server sends for it.
    pub(crate) statements_bytes: i64,
    pub(crate) inside: Series,
    pub(crate) function: Series,
    /// What the caller gets.
    pub(crate) body_bytes: usize,
}

/// Who can be asked.
struct Parties {
    recordings: Vec<Recording>,
    replayer: Replayer,
    app: TestApp,
    function: Function,
}

/// Measures the GETs.
pub(crate) async fn run(database: &TestDatabase, scale: &Scale, report: &mut Report) -> Measured {
    let mut parties = Parties {
        recordings: Recording::of(database, &GETS).await,
        replayer: Replayer::connect(database).await,
        app: TestApp::with_login(database, MONITOR, &[("AUTH_ROLE_CLAIM", "cognito:groups")]).await,
        function: Function::start(database),
    };
    let kinds = GETS.iter().enumerate();
    let kinds = kinds.flat_map(|(number, get)| [(number, get, false), (number, get, true)]);
    let mut lines: Vec<(usize, Line)> = kinds
        .map(|(number, get, is_gzip)| (number, Line::new(*get, is_gzip)))
        .collect();
    let mut floor = Series::new();
    for round in 0..WARM_UP + scale.rounds() {
        let counts = round >= WARM_UP;
        let subject = new_subject();
        for (number, line) in &mut lines {
            let answered = parties.function.invoke(&preflight());
            check_preflight(&answered, report);
            floor.push_if(counts, answered.call(0));
            parties
                .ask(*number, line, &subject, round, counts, report)
                .await;
        }
    }
    let peak_memory_kb = parties.function.peak_memory_kb();
    drop(parties);
    let (cold_preflight, cold) = cold(database, report);
    Measured {
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        preflight: floor,
        cold_preflight,
        cold,
        peak_memory_kb,
    }
}

impl Parties {
    /// Each in its turn, another first each time: whoever follows a request like its own finds the processor's caches full.
    async fn ask(
        &mut self,
        number: usize,
        line: &mut Line,
        subject: &str,
        round: usize,
        counts: bool,
        report: &mut Report,
    ) {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    let call = self.replayer.send(&self.recordings[number], subject);
                    line.statements.push_if(counts, call);
                    line.statements_bytes = call.count;
                }
                1 => {
                    let event = line.get.event(subject, line.is_gzip);
                    let answered = ask_inside(&self.app, &event).await;
                    let sections = line.check(&answered, report);
                    line.inside.push_if(counts, answered.call(sections));
                }
                _ => {
                    let event = line.get.event(subject, line.is_gzip);
                    let answered = self.function.invoke(&event);
                    let sections = line.check(&answered, report);
                    line.function.push_if(counts, answered.call(sections));
                    line.body_bytes = answered.body_bytes;
                    if round == 0 {
                        description::check("GET", PERFORMANCE, &answered.answer);
                    }
                }
            }
        }
    }
}

impl Line {
    fn new(get: Get, is_gzip: bool) -> Self {
        Self {
            get,
            is_gzip,
            statements: Series::new(),
            statements_bytes: 0,
            inside: Series::new(),
            function: Series::new(),
            body_bytes: 0,
        }
    }

    fn check(&self, answered: &Answered, report: &mut Report) -> i64 {
        let (get, answer) = (self.get, &answered.answer);
        let is_gzip = answer.headers.get("content-encoding").map(String::as_str) == Some("gzip");
        // What is small is not worth it.
        if is_gzip && !self.is_gzip {
            report.problem(format!("{}: compressed for nobody", get.name));
        }
        check(get, answered, report)
    }
}

fn check(get: Get, answered: &Answered, report: &mut Report) -> i64 {
    let sections = sections_of(&answered.answer);
    if sections < get.at_least {
        report.problem(format!(
            "{}: {sections} sections where at least {} were to be seen (status {})",
            get.name, get.at_least, answered.answer.status
        ));
    }
    sections
}

fn check_preflight(answered: &Answered, report: &mut Report) {
    if answered.answer.status != 204 {
        let status = answered.answer.status;
        report.problem(format!("preflight: status {status}"));
    }
}

/// A preflight and the full GET as the first thing that a new process is asked. The emulator starts it then.
fn cold(database: &TestDatabase, report: &mut Report) -> (Series, Series) {
    let (mut preflights, mut gets) = (Series::new(), Series::new());
    for _ in 0..cold_rounds() {
        let mut function = Function::start(database);
        let mut answered = function.invoke(&preflight());
        check_preflight(&answered, report);
        answered.cpu_ms = function.cpu_ms();
        preflights.push(answered.call(0));
        drop(function);
        let mut function = Function::start(database);
        let mut answered = function.invoke(&GETS[0].event(&new_subject(), false));
        let sections = check(GETS[0], &answered, report);
        answered.cpu_ms = function.cpu_ms();
        gets.push(answered.call(sections));
    }
    (preflights, gets)
}

//! The matrix as a file: written for a person, read back for the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What a cell can say, at the top of each file.
const LEGEND: &str = "
Each cell is what happened when that caller really tried it, signed in as it really does, on a migrated database with a row
in every table. Callers with the same answers everywhere share a column; the list says who is in which.

  yes     it worked: rows were returned or changed, the call was answered
  none    it worked on no row: row-level security left none
  false   it worked, and the function answered false or null
  guard   42501: the caller has the privilege, and the function's own guard refused
  rls     42501: the caller has the privilege, and a policy refused the row
  inner   42501: the caller has the privilege, and something inside the object refused
  shut    42501: the caller has the privilege, and schema monitoring is closed to it
  .       42501: the caller does not have the privilege
  55000   any other SQLSTATE: let in, and stopped by a trigger or a rule of the language (0A000: a trigger function called)

An insert offers a copy of the row that is there: that only the key stops it is a yes. A line for any column or any
partition tries each, and says the boldest answer. \"Any other privilege\" is held or not, and not tried: references, trigger,
maintain; of views also insert, update, delete and truncate. Functions are called with the arguments in calls.rs.";

/// A caller, as the file lists it.
pub(super) struct Listed<'a> {
    pub(super) name: &'a str,
    pub(super) head: [&'static str; 2],
    pub(super) means: &'a str,
}

/// Everything the file says, by the words it says it in.
#[derive(Default)]
pub(super) struct Cells {
    /// By line, with its section, then by caller.
    pub(super) lines: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) column_grants: BTreeSet<String>,
}

const CALLERS: &str = "callers";
const COLUMN_GRANTS: &str = "privileges on single columns";

/// Writes the file: callers, then each section's lines in the given order.
pub(super) fn render(
    title: &str,
    callers: &[Listed<'_>],
    lines: &[(String, String)],
    cells: &Cells,
) -> String {
    let groups = groups(callers, cells);
    let mut page = format!("{title}\n{LEGEND}\n\n== {CALLERS}\n");
    let width = callers
        .iter()
        .map(|caller| caller.name.len())
        .max()
        .unwrap_or_default();
    for (number, group) in (1..).zip(&groups) {
        page.push('\n');
        for caller in group {
            put(
                &mut page,
                &format!("{number:>3}  {:<width$}  {}", caller.name, caller.means),
            );
        }
    }
    let width = lines
        .iter()
        .map(|(_, label)| label.len())
        .max()
        .unwrap_or_default();
    let mut current = "";
    for (section, label) in lines {
        if section != current {
            put(&mut page, &format!("\n== {section}\n"));
            let numbers: Vec<String> = (1..=groups.len())
                .map(|number| number.to_string())
                .collect();
            put(
                &mut page,
                &row("", width, numbers.iter().map(String::as_str)),
            );
            for word in 0..2 {
                put(
                    &mut page,
                    &row("", width, groups.iter().map(|group| group[0].head[word])),
                );
            }
            current = section;
        }
        let answers = &cells.lines[&key(section, label)];
        put(
            &mut page,
            &row(
                label,
                width,
                groups.iter().map(|group| answers[group[0].name].as_str()),
            ),
        );
    }
    put(&mut page, &format!("\n== {COLUMN_GRANTS}\n"));
    for grant in &cells.column_grants {
        put(&mut page, grant);
    }
    page
}

/// Reads what [`render`] wrote, or a person has changed.
pub(super) fn parse(page: &str) -> Cells {
    let mut cells = Cells::default();
    let mut columns: Vec<Vec<&str>> = Vec::new();
    let mut section = "";
    for line in page.lines().skip_while(|line| !line.starts_with("== ")) {
        if let Some(title) = line.strip_prefix("== ") {
            section = title;
        } else if line.trim().is_empty() || (section != CALLERS && line.starts_with(' ')) {
            // Between blocks, or the head of one.
        } else if section == CALLERS {
            let (number, caller) = line
                .trim()
                .split_once("  ")
                .expect("reading a caller's number");
            let name = caller.trim_start().split("  ").next().unwrap_or_default();
            let number: usize = number.parse().expect("reading a caller's number");
            columns.resize(columns.len().max(number), Vec::new());
            columns[number - 1].push(name);
        } else if section == COLUMN_GRANTS {
            cells.column_grants.insert(line.to_owned());
        } else {
            let mut rest = line.trim_end();
            let mut answers = BTreeMap::new();
            for column in columns.iter().rev() {
                let (before, answer) = rest.rsplit_once(' ').unwrap_or((rest, "(nothing)"));
                rest = before.trim_end();
                answers.extend(
                    column
                        .iter()
                        .map(|name| ((*name).to_owned(), answer.to_owned())),
                );
            }
            cells.lines.insert(key(section, rest), answers);
        }
    }
    cells
}

/// How a line is known: two sections may have the same label.
pub(super) fn key(section: &str, label: &str) -> String {
    format!("{section} | {label}")
}

/// Callers with the same answers in every line, in the order of the first of each.
fn groups<'a, 'b>(callers: &'a [Listed<'b>], cells: &Cells) -> Vec<Vec<&'a Listed<'b>>> {
    let answers = |name: &str| {
        cells
            .lines
            .values()
            .map(|line| line[name].clone())
            .collect::<Vec<_>>()
    };
    let mut groups: Vec<(Vec<String>, Vec<&Listed<'_>>)> = Vec::new();
    for caller in callers {
        let answers = answers(caller.name);
        match groups.iter_mut().find(|(known, _)| *known == answers) {
            Some((_, group)) => group.push(caller),
            None => groups.push((answers, vec![caller])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn row<'a>(label: &str, width: usize, words: impl Iterator<Item = &'a str>) -> String {
    words.fold(format!("{label:<width$} "), |mut row, word| {
        write!(row, " {word:<5}").expect("writing to a string");
        row
    })
}

fn put(page: &mut String, line: &str) {
    page.push_str(line.trim_end_matches(' '));
    page.push('\n');
}

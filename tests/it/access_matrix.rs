//! Who may what: every caller tries every action on every object, and `access_matrix/*.txt` says what must come of it.
//!
//! Objects come from the catalogs, so one that is new has no line and fails the test, as does a line whose object is
//! gone. `PGVIGIL_BLESS=1 cargo test --test it access_matrix` writes down what was observed; whether it should be so is
//! for the reader of the diff to say.

mod ask;
mod callers;
mod calls;
mod closed;
mod objects;
mod page;
mod relations;
mod routines;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::fs;

use page::{Cells, Listed, key};

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, ClusterOptions, Flavour, SUPERUSER, plain, supabase};
use crate::support::project_file;
use crate::support::wait::wait_until;
use crate::support::workload::Workload;

#[tokio::test]
async fn everybody_may_what_the_file_says_on_supabase() {
    check(
        supabase(),
        Flavour::Supabase,
        "supabase.txt",
        "Who may what on a Supabase-like database, migrated by a role that is no superuser.",
    )
    .await;
}

#[tokio::test]
async fn everybody_may_what_the_file_says_on_a_plain_server() {
    check(
        plain(),
        Flavour::Plain,
        "plain.txt",
        "Who may what on a plain PostgreSQL server, migrated by a superuser. It has no organization_members, so membership says\nnothing here.",
    )
    .await;
}

#[tokio::test]
async fn everybody_may_what_the_file_says_where_a_master_user_migrated() {
    let cluster = Cluster::start(ClusterOptions {
        flavour: Flavour::Rds,
        ..ClusterOptions::default()
    });
    check(
        &cluster,
        Flavour::Rds,
        "rds.txt",
        "Who may what on a plain PostgreSQL server, migrated by a master user as RDS makes one: no superuser, may create roles, owns\nthe database. It has no organization_members, so membership says nothing here.",
    )
    .await;
}

async fn check(cluster: &Cluster, flavour: Flavour, file: &str, title: &str) {
    let database = cluster.database();
    let _slow = furnish(&database, flavour).await;
    closed::to_public_and_anon(&database);
    closed::to_roles_that_are_not_asked(&database);

    let asked = callers::callers(flavour);
    let actions = objects::actions(&database.superuser().await).await;
    let mut observed = Cells {
        lines: BTreeMap::new(),
        column_grants: column_grants(&database),
    };
    for caller in &asked {
        let client = database.as_caller(caller.caller.clone()).await;
        let outcomes = ask::outcomes(&client, &actions).await;
        for (action, outcome) in actions.iter().zip(outcomes) {
            let line = key(action.section, &action.label);
            let line = observed.lines.entry(line).or_default();
            line.insert(caller.name.clone(), outcome.word().to_owned());
        }
    }

    let listed: Vec<Listed<'_>> = asked
        .iter()
        .map(|caller| Listed {
            name: &caller.name,
            head: caller.head,
            means: &caller.means,
        })
        .collect();
    let lines: Vec<(String, String)> = actions
        .iter()
        .map(|action| (action.section.to_owned(), action.label.clone()))
        .collect();
    let page = page::render(title, &listed, &lines, &observed);
    let path = project_file("tests/it/access_matrix").join(file);
    if env::var_os("PGVIGIL_BLESS").is_some_and(|wish| wish == "1") {
        fs::write(&path, &page).expect("writing the matrix");
    }
    let expected = fs::read_to_string(&path).expect("reading the matrix");
    let differences = differences(&page::parse(&expected), &observed);
    assert!(
        differences.is_empty() && page == expected,
        "tests/it/access_matrix/{file} says otherwise:\n{}\n\
         Where the database is right: PGVIGIL_BLESS=1 cargo test --test it access_matrix, and read the diff.",
        if differences.is_empty() {
            "  the same, in other words or another order\n"
        } else {
            &differences
        }
    );
}

/// A row in every table, somebody to see in every view, members in two organizations.
async fn furnish(database: &TestDatabase, flavour: Flavour) -> Workload {
    let seed = format!("{}{}", calls::SEED, callers::organizations(flavour));
    database.psql(SUPERUSER, &seed).expect("seeding the tables");
    let slow = Workload::running(
        database,
        database.superuser().await,
        "select pg_sleep(3600)",
    )
    .await;
    let observer = database.superuser().await;
    wait_until("a statement is slow", async || {
        let seen = observer
            .query_opt("select from public.monitoring_slow_queries limit 1", &[])
            .await;
        seen.expect("looking for slow statements").is_some()
    })
    .await;
    slow
}

/// What is granted column by column, which a whole table's line cannot show.
fn column_grants(database: &TestDatabase) -> BTreeSet<String> {
    let grants = database.psql(
        SUPERUSER,
        "select format('%s (%s): %s to %s', a.attrelid::regclass, a.attname, lower(acl.privilege_type),
           string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' order by r.rolname))
         from pg_attribute a
           join pg_class c on c.oid = a.attrelid
           cross join aclexplode(a.attacl) acl
           left join pg_roles r on r.oid = acl.grantee
         where c.relnamespace = 'monitoring'::regnamespace or pg_get_userbyid(c.relowner) = 'monitoring_owner'
         group by a.attrelid, a.attname, acl.privilege_type",
    );
    grants
        .expect("reading columns' privileges")
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Line by line and cell by cell; callers who differ in the same way are named together.
fn differences(expected: &Cells, observed: &Cells) -> String {
    let mut text = String::new();
    let mut say = |line: String| writeln!(text, "  {line}").expect("writing to a string");
    for (line, answers) in &observed.lines {
        let Some(known) = expected.lines.get(line) else {
            say(format!("{line}: not in the file"));
            continue;
        };
        let mut changes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (caller, answer) in answers {
            match known.get(caller) {
                Some(known) if known == answer => {}
                known => {
                    let known = known.map_or("(no column)", String::as_str);
                    changes.entry((known, answer)).or_default().push(caller);
                }
            }
        }
        for caller in known.keys().filter(|caller| !answers.contains_key(*caller)) {
            changes
                .entry((&known[caller], "(no such caller)"))
                .or_default()
                .push(caller);
        }
        for ((expected, got), callers) in changes {
            say(format!(
                "{line}: expected {expected}, got {got}: {}",
                callers.join("; ")
            ));
        }
    }
    for line in expected
        .lines
        .keys()
        .filter(|line| !observed.lines.contains_key(*line))
    {
        say(format!("{line}: in the file, but not in the database"));
    }
    for grant in observed.column_grants.difference(&expected.column_grants) {
        say(format!("column privilege that is not in the file: {grant}"));
    }
    for grant in expected.column_grants.difference(&observed.column_grants) {
        say(format!("column privilege that is not there: {grant}"));
    }
    text
}

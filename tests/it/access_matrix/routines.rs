//! What can be tried on a function: calling it.

use tokio_postgres::{Client, Row};

use super::calls::CALLS;
use super::objects::{Action, FACADE_FUNCTIONS, FUNCTIONS, Sign, Try, usage_of};

/// Functions and procedures that are ours, with the types of their parameters spelled briefly.
const ROUTINES: &str = "
select p.oid, n.nspname::text as schema, p.proname::text as name,
  p.proname || '(' || replace(oidvectortypes(p.proargtypes), 'timestamp with time zone', 'timestamptz') || ')' as signature,
  p.pronargs > 0 as has_parameters, p.prorettype = 'boolean'::regtype and not p.proretset as is_boolean,
  p.prokind = 'p' as is_procedure
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'monitoring' or pg_get_userbyid(p.proowner) = 'monitoring_owner'
order by schema, signature";

/// A real call of every function, with the arguments that are listed for it.
pub(super) async fn actions(superuser: &Client) -> Vec<Action> {
    let routines = superuser.query(ROUTINES, &[]).await;
    let routines = routines.expect("listing functions");
    let known: Vec<String> = routines.iter().map(full_signature).collect();
    let gone = CALLS
        .iter()
        .filter(|(signature, _)| !known.iter().any(|known| known == signature))
        .map(|(signature, _)| format!("{signature} is gone"));
    let is_new = |row: &&Row| row.get("has_parameters") && calls(row).is_empty();
    let new = routines.iter().filter(is_new).map(|row| {
        format!(
            "{} is new and wants harmless arguments",
            full_signature(row)
        )
    });
    let problems: Vec<String> = gone.chain(new).collect();
    assert!(
        problems.is_empty(),
        "CALLS in tests/it/access_matrix/calls.rs: {problems:#?}"
    );
    routines.iter().flat_map(routine_actions).collect()
}

/// The arguments that are listed for a function.
fn calls(row: &Row) -> Vec<&'static str> {
    let signature = full_signature(row);
    CALLS
        .iter()
        .filter(|(known, _)| *known == signature)
        .map(|(_, arguments)| *arguments)
        .collect()
}

fn full_signature(row: &Row) -> String {
    format!(
        "{}.{}",
        row.get::<_, &str>("schema"),
        row.get::<_, &str>("signature")
    )
}

/// The calls of one function. A trigger function is called too: who may, is told that it is a trigger's.
fn routine_actions(row: &Row) -> Vec<Action> {
    let (schema, name): (&str, &str) = (row.get("schema"), row.get("name"));
    let mut calls = calls(row);
    if calls.is_empty() {
        calls.push("");
    }
    let verb = if row.get("is_procedure") {
        "call"
    } else {
        "select"
    };
    let sign = if row.get("is_boolean") {
        Sign::Truth
    } else {
        Sign::Success
    };
    let action = |arguments: &&str| Action {
        section: if schema == "monitoring" {
            FUNCTIONS
        } else {
            FACADE_FUNCTIONS
        },
        label: match calls.len() {
            1 => row.get("signature"),
            _ => format!("{}: {arguments}", row.get::<_, &str>("signature")),
        },
        tries: vec![Try {
            sql: format!("{verb} \"{schema}\".\"{name}\"({arguments})"),
            sign,
            privilege: format!(
                "has_function_privilege({}, 'execute')",
                row.get::<_, u32>("oid")
            ),
            usage: usage_of(schema),
        }],
    };
    calls.iter().map(action).collect()
}

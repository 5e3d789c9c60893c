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
    for (signature, _) in CALLS {
        assert!(
            known.iter().any(|known| known == signature),
            "{signature} is gone: remove it from CALLS in tests/it/access_matrix/calls.rs"
        );
    }
    routines.iter().flat_map(routine_actions).collect()
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
    let signature = full_signature(row);
    let mut calls: Vec<&str> = CALLS
        .iter()
        .filter(|(known, _)| *known == signature)
        .map(|(_, arguments)| *arguments)
        .collect();
    if calls.is_empty() {
        assert!(
            !row.get::<_, bool>("has_parameters"),
            "{signature} is new: give it harmless arguments in CALLS in tests/it/access_matrix/calls.rs"
        );
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

//! What they are asked to do: every action on every object, as the catalogs of the migrated database list them.

use tokio_postgres::Client;

use super::{relations, routines};

/// One line of the files.
pub(super) struct Action {
    pub(super) section: &'static str,
    pub(super) label: String,
    /// Usually one; more where a line stands for several columns or partitions: the answer is then the boldest.
    pub(super) tries: Vec<Try>,
}

/// One statement, and what the caller needs for it.
pub(super) struct Try {
    pub(super) sql: String,
    pub(super) sign: Sign,
    /// Whether the caller has the privilege on the object itself.
    pub(super) privilege: String,
    /// Whether the caller has the use of the object's schema.
    pub(super) usage: String,
}

/// How success is told from the lack of it.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    /// The statement returned or changed a row.
    Rows,
    /// It returned true.
    Truth,
    /// It did not fail.
    Success,
    /// It returned true: the caller has a privilege that is not tried.
    Held,
}

const ROLES: &str = "roles, schema and database";
pub(super) const VIEWS: &str = "public: views";
pub(super) const FACADE_TABLES: &str = "public: tables";
pub(super) const FACADE_FUNCTIONS: &str = "public: functions";
pub(super) const TABLES: &str = "monitoring: tables and views";
pub(super) const FUNCTIONS: &str = "monitoring: functions";
pub(super) const REST: &str = "sequences and types";

/// The order of the files.
const SECTIONS: [&str; 7] = [
    ROLES,
    VIEWS,
    FACADE_TABLES,
    FACADE_FUNCTIONS,
    TABLES,
    FUNCTIONS,
    REST,
];

/// Everything that can be tried in this database, section by section.
///
/// # Panics
///
/// When an object is new and this test does not know how to try it; the message says where that is told.
pub(super) async fn actions(superuser: &Client) -> Vec<Action> {
    let mut actions = around_the_objects();
    actions.extend(relations::actions(superuser).await);
    actions.extend(routines::actions(superuser).await);
    actions.sort_by_key(|action| {
        SECTIONS
            .iter()
            .position(|section| *section == action.section)
    });
    actions
}

/// Roles to become, and places to make objects in.
fn around_the_objects() -> Vec<Action> {
    let action = |label: &str, sql: &str, privilege: &str| Action {
        section: ROLES,
        label: label.to_owned(),
        tries: vec![Try {
            sql: sql.to_owned(),
            sign: Sign::Success,
            privilege: privilege.to_owned(),
            usage: "true".to_owned(),
        }],
    };
    let roles = [
        "monitoring_owner",
        "monitoring_reader",
        "monitoring_agent",
        "monitoring_calendar",
        "monitoring_members",
    ];
    let mut actions: Vec<Action> = roles
        .iter()
        .map(|role| {
            action(
                &format!("set role {role}"),
                &format!("set role {role}"),
                "false",
            )
        })
        .collect();
    actions.extend([
        action(
            "schema monitoring: usage",
            "select 'monitoring.settings'::regclass",
            "has_schema_privilege('monitoring', 'usage')",
        ),
        action(
            "schema monitoring: create",
            "create table monitoring.made_by_a_caller ()",
            "has_schema_privilege('monitoring', 'create')",
        ),
        action(
            "database: create",
            "create schema made_by_a_caller",
            "has_database_privilege(current_database(), 'create')",
        ),
    ]);
    actions
}

/// The use of a schema, asked as the caller.
pub(super) fn usage_of(schema: &str) -> String {
    format!("has_schema_privilege('{schema}', 'usage')")
}

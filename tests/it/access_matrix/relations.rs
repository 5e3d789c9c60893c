//! What can be tried on a table, a view, a partition, a sequence or a type.

use tokio_postgres::{Client, Row};

use super::objects::{Action, FACADE_TABLES, REST, Sign, TABLES, Try, VIEWS, usage_of};

/// Relations, sequences and standalone types that are ours: in our schema, or our owner's anywhere.
const RELATIONS: &str = "
select c.oid, n.nspname::text as schema, c.relname::text as name, format('%I.%I', n.nspname, c.relname) as identity,
  c.relkind::text as kind, p.relname::text as parent,
  array(select a.attname::text from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity <> 'a'
        order by a.attnum) as columns
from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_inherits i on i.inhrelid = c.oid and c.relispartition
  left join pg_class p on p.oid = i.inhparent
where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  and (n.nspname = 'monitoring' or pg_get_userbyid(c.relowner) = 'monitoring_owner')
union all
select t.oid, n.nspname::text, t.typname::text, format('%I.%I', n.nspname, t.typname), 'type', null, '{}'
from pg_type t
  join pg_namespace n on n.oid = t.typnamespace
  left join pg_class c on c.oid = t.typrelid
where (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
  and (n.nspname = 'monitoring' or pg_get_userbyid(t.typowner) = 'monitoring_owner')
order by schema, name";

/// Every command on every relation; partitions of one table share their lines, since their own names have dates.
pub(super) async fn actions(superuser: &Client) -> Vec<Action> {
    let newer = "select current_setting('server_version_num')::int >= 170000";
    let newer = superuser.query_one(newer, &[]).await;
    let maintain = match newer.expect("asking the version").get(0) {
        true => ", maintain",
        false => "",
    };
    let mut actions: Vec<Action> = Vec::new();
    let mut empty = Vec::new();
    let relations = superuser.query(RELATIONS, &[]).await;
    for row in relations.expect("listing relations") {
        let relation = Relation::from(&row);
        let content = relation.row(superuser).await;
        if relation.is_table() && !relation.is_partition && content.is_none() {
            empty.push(relation.identity.clone());
        }
        for action in relation.actions(&content.unwrap_or_else(|| "{}".to_owned()), maintain) {
            let known = actions
                .iter_mut()
                .find(|known| known.section == action.section && known.label == action.label);
            match known {
                Some(known) => known.tries.extend(action.tries),
                None => actions.push(action),
            }
        }
    }
    assert!(
        empty.is_empty(),
        "SEED in tests/it/access_matrix/calls.rs: nobody could be seen to read an empty table: {empty:?}"
    );
    actions
}

struct Relation {
    oid: u32,
    schema: String,
    /// As the files name it: a partition by its parent, since its own name has a date.
    title: String,
    identity: String,
    kind: String,
    is_partition: bool,
    columns: Vec<String>,
}

impl From<&Row> for Relation {
    fn from(row: &Row) -> Self {
        let parent: Option<String> = row.get("parent");
        Self {
            oid: row.get("oid"),
            schema: row.get("schema"),
            is_partition: parent.is_some(),
            title: match parent {
                Some(parent) => format!("{parent}, any partition"),
                None => row.get("name"),
            },
            identity: row.get("identity"),
            kind: row.get("kind"),
            columns: row.get("columns"),
        }
    }
}

/// A statement, and the expression that says whether the caller has the privilege for it.
type Attempt = (String, String);

impl Relation {
    fn is_table(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p" | "f")
    }

    /// Any row of a table, as JSON.
    async fn row(&self, superuser: &Client) -> Option<String> {
        if !self.is_table() {
            return None;
        }
        let sql = format!(
            "select to_jsonb(t.*)::text from {} t limit 1",
            self.identity
        );
        let row = superuser.query_opt(&sql, &[]).await;
        row.expect("reading a row").map(|row| row.get(0))
    }

    fn actions(&self, row: &str, maintain: &str) -> Vec<Action> {
        match self.kind.as_str() {
            "type" => {
                vec![self.held(
                    "usage",
                    format!("has_type_privilege({}, 'usage')", self.oid),
                )]
            }
            "S" => self.sequence_actions(),
            "v" | "m" => vec![
                self.select(),
                self.other("insert, update, references", "delete, truncate, trigger"),
            ],
            _ => self.table_actions(row, maintain),
        }
    }

    fn section(&self) -> &'static str {
        match (self.schema.as_str(), self.kind.as_str()) {
            (_, "S" | "type") => REST,
            ("monitoring", _) => TABLES,
            (_, "v" | "m") => VIEWS,
            _ => FACADE_TABLES,
        }
    }

    fn action(
        &self,
        name: &str,
        sign: Sign,
        attempts: impl IntoIterator<Item = Attempt>,
    ) -> Action {
        let tries = attempts.into_iter().map(|(sql, privilege)| Try {
            sql,
            sign,
            privilege,
            usage: usage_of(&self.schema),
        });
        Action {
            section: self.section(),
            label: format!("{}: {name}", self.title),
            tries: tries.collect(),
        }
    }

    /// A privilege that is asked for and not tried.
    fn held(&self, name: &str, privilege: String) -> Action {
        let attempt = (format!("select {privilege}"), privilege);
        self.action(name, Sign::Held, [attempt])
    }

    /// Privileges that show in nothing a caller does, or need an object of its own.
    fn other(&self, columns: &str, whole: &str) -> Action {
        let (column, table) = (self.any_column(columns), self.whole(whole));
        self.held("any other privilege", format!("{column} or {table}"))
    }

    fn whole(&self, privilege: &str) -> String {
        format!("has_table_privilege({}, '{privilege}')", self.oid)
    }

    fn any_column(&self, privilege: &str) -> String {
        format!("has_any_column_privilege({}, '{privilege}')", self.oid)
    }

    /// Without a column in it, a select asks for the privilege on any one.
    fn select(&self) -> Action {
        let sql = format!("select from {} limit 1", self.identity);
        self.action("select", Sign::Rows, [(sql, self.any_column("select"))])
    }

    fn sequence_actions(&self) -> Vec<Action> {
        let Self { oid, identity, .. } = self;
        let held = |privilege| format!("has_sequence_privilege({oid}, '{privilege}')");
        let next = (
            format!("select nextval('{identity}')"),
            held("usage, update"),
        );
        let set = (format!("select setval('{identity}', 1)"), held("update"));
        let select = (format!("select last_value from {identity}"), held("select"));
        vec![
            self.action("nextval", Sign::Success, [next]),
            self.action("setval", Sign::Success, [set]),
            self.action("select", Sign::Rows, [select]),
        ]
    }

    /// Every command on a table that holds this row: what is written is what is there already, which is enough to meet
    /// privileges and policies.
    fn table_actions(&self, row: &str, maintain: &str) -> Vec<Action> {
        let Self { oid, identity, .. } = self;
        let copy = format!("jsonb_populate_record(null::{identity}, $row${row}$row$) r");
        let columns = quoted(&self.columns, "").join(", ");
        let values = quoted(&self.columns, "r.").join(", ");
        let insert = format!(
            "insert into {identity} ({columns}) overriding system value select {values} from {copy} on conflict do nothing"
        );
        let update = |column: &String| {
            (
                format!("update {identity} set \"{column}\" = (select r.\"{column}\" from {copy})"),
                format!("has_column_privilege({oid}, '{column}', 'update')"),
            )
        };
        let delete = (format!("delete from {identity}"), self.whole("delete"));
        let truncate = (format!("truncate {identity}"), self.whole("truncate"));
        let mut actions = vec![
            self.select(),
            self.action(
                "insert",
                Sign::Success,
                [(insert, self.any_column("insert"))],
            ),
        ];
        if self.section() == FACADE_TABLES {
            actions.extend(self.columns.iter().map(|column| {
                self.action(&format!("update {column}"), Sign::Rows, [update(column)])
            }));
        } else {
            let updates = self.columns.iter().map(update);
            actions.push(self.action("update any column", Sign::Rows, updates));
        }
        actions.extend([
            self.action("delete", Sign::Rows, [delete]),
            self.action("truncate", Sign::Success, [truncate]),
            self.other("references", &format!("trigger{maintain}")),
        ]);
        actions
    }
}

fn quoted(columns: &[String], prefix: &str) -> Vec<String> {
    let quote = |column: &String| format!("{prefix}\"{column}\"");
    columns.iter().map(quote).collect()
}

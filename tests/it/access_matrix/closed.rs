//! What the catalogs themselves say: nothing is open to everybody, nor to a role that the matrix does not ask.

use crate::support::database::TestDatabase;
use crate::support::postgres::{Cluster, SUPERUSER, plain, supabase};
use crate::support::templates::migrations;

/// Every privilege on every object of ours, the built-in ones included: what, to whom.
const PRIVILEGES: &str = "
with ours as (
  select format('schema %I', n.nspname) as name, coalesce(n.nspacl, acldefault('n', n.nspowner)) as acl, n.nspowner as owner
  from pg_namespace n where n.nspname = 'monitoring'
  union all
  select format('relation %s', c.oid::regclass),
    coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::\"char\", c.relowner)), c.relowner
  from pg_class c
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    and (c.relnamespace = 'monitoring'::regnamespace or pg_get_userbyid(c.relowner) = 'monitoring_owner')
  union all
  select format('column %s.%I', c.oid::regclass, a.attname), a.attacl, c.relowner
  from pg_attribute a join pg_class c on c.oid = a.attrelid
  where a.attacl is not null
    and (c.relnamespace = 'monitoring'::regnamespace or pg_get_userbyid(c.relowner) = 'monitoring_owner')
  union all
  select format('function %s', p.oid::regprocedure), coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner
  from pg_proc p
  where p.pronamespace = 'monitoring'::regnamespace or pg_get_userbyid(p.proowner) = 'monitoring_owner'
  union all
  select format('type %s', t.oid::regtype), coalesce(t.typacl, acldefault('T', t.typowner)), t.typowner
  from pg_type t left join pg_class c on c.oid = t.typrelid
  where (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
    and (t.typnamespace = 'monitoring'::regnamespace or pg_get_userbyid(t.typowner) = 'monitoring_owner')
)
select format('%s: %s to %s', o.name, lower(acl.privilege_type), coalesce(r.rolname, 'PUBLIC'))
from ours o cross join aclexplode(o.acl) acl left join pg_roles r on r.oid = acl.grantee
where ";

/// By its own name, by PUBLIC, or by a role it is a member of.
pub(super) fn to_public_and_anon(database: &TestDatabase) {
    let anon = "acl.grantee = 0 or exists (select from pg_roles a where a.rolname = 'anon' and pg_has_role(a.oid, acl.grantee, 'member'))";
    let open = database.psql(SUPERUSER, &format!("{PRIVILEGES}{anon} order by 1"));
    assert_eq!(open.as_deref(), Ok(""), "open to everybody");
}

/// A grant to a role that no caller of the matrix has would be seen by no cell.
pub(super) fn to_roles_that_are_not_asked(database: &TestDatabase) {
    let others = format!(
        "acl.grantee not in (o.owner, 0) and r.rolname not in \
         ('monitoring_owner', 'monitoring_reader', 'monitoring_agent', 'authenticated', 'service_role', '{}')",
        database.migrator()
    );
    let open = database.psql(SUPERUSER, &format!("{PRIVILEGES}{others} order by 1"));
    assert_eq!(
        open.as_deref(),
        Ok(""),
        "open to a role that no caller of the matrix has"
    );
}

/// Supabase's default privileges opened the original's views and functions to the internet. These are wider: whoever
/// makes an object, it is everybody's until the migration says otherwise.
#[test]
fn default_privileges_open_nothing() {
    for cluster in [plain(), supabase()] {
        let database = migrated_under_default_privileges(cluster);
        to_public_and_anon(&database);
        let all = format!("{PRIVILEGES}true order by 1");
        assert_eq!(
            database.psql(SUPERUSER, &all),
            cluster.database().psql(SUPERUSER, &all),
            "with wide default privileges, and without"
        );
    }
}

fn migrated_under_default_privileges(cluster: &Cluster) -> TestDatabase {
    // The roles are the cluster's, and there once any of its databases is migrated.
    drop(cluster.database());
    let database = cluster.empty_database();
    let wide = format!(
        "do $wide$
         declare v_maker name; v_kind text; v_everybody text;
         begin
           v_everybody := (select string_agg(rolname, ', ') from pg_roles where rolname in ('anon', 'authenticated', 'service_role'));
           v_everybody := concat_ws(', ', 'public', v_everybody);
           foreach v_maker in array array['{}', 'monitoring_owner'] loop
             foreach v_kind in array array['tables', 'functions', 'sequences', 'schemas'] loop
               execute format('alter default privileges for role %I grant all on %s to %s', v_maker, v_kind, v_everybody);
             end loop;
           end loop;
         end $wide$",
        database.migrator()
    );
    database
        .psql(SUPERUSER, &wide)
        .expect("widening the default privileges");
    for path in migrations() {
        let migrated = database.psql_file(database.migrator(), &path);
        migrated.unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
    }
    database
}

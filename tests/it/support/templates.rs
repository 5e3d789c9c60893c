//! What a cluster's databases are cloned from.
//!
//! Cloning takes a tenth of what migrating takes, so each cluster prepares two databases, each on its first use:
//! `base`, what the migrations find, and `migrated`, what they leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::postgres::{Flavour, PASSWORD, SUPERUSER, Server};
use super::programs::run;

/// The login role of the monitor: may become reader or agent, is nothing by itself.
pub(crate) const MONITOR: &str = "pgvigil";

/// A login role that nobody has granted anything.
pub(crate) const FRESH_LOGIN: &str = "fresh_login";

/// What runs the migrations on [`Flavour::Supabase`]: as restricted as Supabase's `postgres`.
pub(crate) const SUPABASE_OWNER: &str = "supabase_postgres";

/// What runs the migrations on [`Flavour::Rds`].
pub(crate) const RDS_MASTER: &str = "master";

const SUPABASE_ROLES: &str = include_str!("supabase_roles.sql");
const SUPABASE_DATABASE: &str = include_str!("supabase_database.sql");

/// Runs after the migrations, which create the two roles; without migrations there is nothing to grant.
const MONITOR_LOGIN: &str = r#"
create role :"login" login noinherit password :'password';
select format('grant %I to %I', rolname, :'login')
from pg_roles where rolname in ('monitoring_reader', 'monitoring_agent') \gexec
"#;

/// What a throw-away cluster trades for speed would be findings in every database: accepted here, as an operator would.
pub(crate) const ACCEPT_SETTINGS: &str = "
insert into monitoring.suppressions (fingerprint, reason, until)
select md5('unsafe-setting:' || name), 'a throw-away cluster', now() + interval '300 days'
from unnest('{fsync,full_page_writes,autovacuum,synchronous_commit}'::text[]) name
on conflict (fingerprint) do nothing;
";

/// On a busy machine a part of a sample takes more than its share, and would be put off: not in tests of what it holds.
const TAKE_TIME: &str =
    "update monitoring.settings set value = '10000' where key = 'sample_budget_ms';
     update monitoring.sampler_parts set budget_share = 1 where budget_share is not null";

/// Which templates exist already, or why they do not.
#[derive(Debug, Default)]
pub(super) struct Templates {
    base: OnceLock<Result<(), String>>,
    migrated: OnceLock<Result<(), String>>,
    /// Migrations create roles, which belong to the whole cluster: two at once, in whatever databases, can meet there
    /// ("tuple concurrently updated").
    migrating: Mutex<()>,
}

impl Server {
    /// The role that owns the databases and migrates them.
    pub(super) fn migrator(&self) -> &'static str {
        match self.flavour {
            Flavour::Plain => SUPERUSER,
            Flavour::Supabase => SUPABASE_OWNER,
            Flavour::Rds => RDS_MASTER,
        }
    }

    /// The template before any migration.
    pub(super) fn base(&self) -> Result<&'static str, String> {
        let prepared = self.templates.base.get_or_init(|| self.prepare_base());
        prepared.clone().map(|()| "base")
    }

    /// The template with every migration applied.
    pub(super) fn migrated(&self) -> Result<&'static str, String> {
        let prepared = self
            .templates
            .migrated
            .get_or_init(|| self.prepare_migrated());
        prepared.clone().map(|()| "migrated")
    }

    /// Creates a database as a copy of another, the fastest way the version knows.
    pub(super) fn clone_database(&self, name: &str, template: &str) -> Result<(), String> {
        let owner = self.migrator();
        let strategy = match self.major_version {
            ..15 => "",
            15.. => "strategy file_copy",
        };
        let sql = format!("create database {name} template {template} owner {owner} {strategy}");
        self.administer("postgres", &sql).map(drop)
    }

    /// Runs a file the way a migration is applied, one at a time.
    pub(super) fn psql_file(
        &self,
        user: &str,
        database: &str,
        path: &Path,
    ) -> Result<String, String> {
        let turn = self.templates.migrating.lock();
        let mut psql = self.psql(user, database);
        psql.arg("--single-transaction").arg("-f").arg(path);
        let result = run(psql, "");
        drop(turn);
        result
    }

    /// Creates a login that may do what the monitor's may.
    pub(super) fn create_monitor_login(&self, name: &str) -> Result<(), String> {
        let mut psql = self.psql(SUPERUSER, "postgres");
        psql.args(["-v", &format!("login={name}")]);
        psql.args(["-v", &format!("password={}", *PASSWORD)]);
        run(psql, MONITOR_LOGIN).map(drop)
    }

    fn prepare_base(&self) -> Result<(), String> {
        let fresh = format!("create role {FRESH_LOGIN} login password '{}';", *PASSWORD);
        self.administer("postgres", &fresh)?;
        if self.flavour == Flavour::Supabase {
            self.administer("postgres", SUPABASE_ROLES)?;
            let logins = format!(
                "alter role {SUPABASE_OWNER} password '{0}'; alter role authenticator password '{0}';",
                *PASSWORD
            );
            self.administer("postgres", &logins)?;
        }
        if self.flavour == Flavour::Rds {
            let master = format!(
                "create role {RDS_MASTER} login createrole createdb password '{}'; \
                 grant pg_monitor to {RDS_MASTER} with admin option",
                *PASSWORD
            );
            self.administer("postgres", &master)?;
        }
        self.clone_database("base", "template0")?;
        self.furnish_base()?;
        self.seal("base")
    }

    fn furnish_base(&self) -> Result<(), String> {
        if self.flavour == Flavour::Supabase {
            self.administer("base", SUPABASE_DATABASE)?;
        }
        if self.pg_stat_statements {
            let schema = match self.flavour {
                Flavour::Plain | Flavour::Rds => "public",
                Flavour::Supabase => "extensions",
            };
            let sql = format!("create extension pg_stat_statements schema {schema}");
            self.administer("base", &sql)?;
        }
        Ok(())
    }

    fn prepare_migrated(&self) -> Result<(), String> {
        let base = self.base()?;
        self.clone_database("migrated", base)?;
        for path in migrations() {
            self.psql_file(self.migrator(), "migrated", &path)?;
        }
        self.administer("migrated", ACCEPT_SETTINGS)?;
        if self.lets_samples_take_time {
            self.administer("migrated", TAKE_TIME)?;
        }
        self.create_monitor_login(MONITOR)?;
        self.seal("migrated")
    }

    /// A database can be cloned only while nobody is connected to it: from here on nobody can be.
    fn seal(&self, name: &str) -> Result<(), String> {
        let sql = format!("alter database {name} with is_template true allow_connections false");
        self.administer("postgres", &sql).map(drop)
    }
}

/// Every migration, in the order in which they are applied.
pub(crate) fn migrations() -> Vec<PathBuf> {
    let directory = super::project_file("migrations");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    paths.sort();
    paths
}

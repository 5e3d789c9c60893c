//! A hot standby, made by the low-level backup API: unlike `pg_basebackup`, it needs no program of the server's own version
//! (manual, "Making a Base Backup Using the Low Level API").

use std::fs;
use std::process::Command;

use super::postgres::{Cluster, ClusterOptions, account_directory};
use super::programs::{as_account, run};

/// Arguments: the primary's directory, the standby's. A file that a running server has just removed is no failure.
const COPY: &str =
    r#"cp -a "$1" "$2" 2>/dev/null; rm -f "$2/postmaster.pid"; test -f "$2/PG_VERSION""#;

/// The write-ahead log that was written while the rest was copied, the label, and what makes it a standby.
const FINISH: &str = r#"cp -a "$1/pg_wal/." "$2/pg_wal/" && printf '%s' "$3" > "$2/backup_label" && touch "$2/standby.signal""#;

impl Cluster {
    /// A standby of this cluster as it is now. It has no primary to follow, so it stays as it is.
    pub(crate) async fn standby(&self, options: ClusterOptions) -> Self {
        let data = account_directory("standby-").join("data");
        let (start, stop) = match self.major_version() {
            ..15 => (
                "select pg_start_backup('standby', true, false)",
                "select labelfile from pg_stop_backup(false, false)",
            ),
            15.. => (
                "select pg_backup_start('standby', true)",
                "select labelfile from pg_backup_stop(false)",
            ),
        };
        let on_primary = self.existing_database("postgres");
        let session = on_primary.superuser().await;
        session
            .batch_execute(start)
            .await
            .expect("starting a backup");
        let copy = |script: &str, label: &str| {
            let mut shell = Command::new("sh");
            as_account(&mut shell);
            shell.current_dir("/").args(["-c", script, "copy"]);
            shell.arg(self.directory()).arg(&data).arg(label);
            run(shell, "").expect("copying a cluster");
        };
        copy(COPY, "");
        let stopped = session.query_one(stop, &[]).await;
        copy(FINISH, stopped.expect("ending the backup").get(0));
        let standby = Self::start(ClusterOptions {
            data: Some(data.clone()),
            ..options
        });
        fs::remove_dir_all(data).expect("removing the copy");
        standby
    }
}

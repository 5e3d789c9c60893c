//! `DATABASE_TARGETS`: databases beside the default one, each under a name.
//!
//! A comma-separated list, since neither a name nor the id or ARN of a secret holds a comma or, for the name, an equals sign:
//! `reports=pgvigil/reports,reports.migration=pgvigil/reports-owner`.

use std::collections::BTreeMap;

/// The name of the database that `DATABASE_SECRET_ID` or `DATABASE_URL` leads to.
pub const DEFAULT_TARGET: &str = "default";

/// Follows a target's name where the secret is the migrating login's.
const MIGRATION: &str = ".migration";

/// The secrets of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Secrets {
    pub(super) login: String,
    pub(super) migration: Option<String>,
}

/// Reads the list.
///
/// # Errors
///
/// One sentence a problem. Entries are told by their place: what stands there by mistake could be a password.
pub(super) fn parse(list: &str) -> Result<BTreeMap<String, Secrets>, Vec<String>> {
    let mut logins: BTreeMap<&str, &str> = BTreeMap::new();
    let mut migrations: BTreeMap<&str, &str> = BTreeMap::new();
    let mut problems = Vec::new();
    let entries = list.split(',').map(str::trim).enumerate();
    for (place, entry) in entries.filter(|(_, entry)| !entry.is_empty()) {
        match read(entry) {
            Ok((name, id, is_migration)) => {
                let known = if is_migration {
                    &mut migrations
                } else {
                    &mut logins
                };
                if known.insert(name, id).is_some() {
                    problems.push(format!("DATABASE_TARGETS holds {name} twice: keep one"));
                }
            }
            Err(problem) => {
                problems.push(format!("DATABASE_TARGETS, entry {}, {problem}", place + 1));
            }
        }
    }
    for name in migrations.keys() {
        if !logins.contains_key(name) {
            problems.push(format!(
                "DATABASE_TARGETS holds {name}{MIGRATION} without {name}: name the secret with the monitor's login too"
            ));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let secrets = |(name, id): (&str, &str)| {
        let secrets = Secrets {
            login: id.to_owned(),
            migration: migrations.get(name).map(|&id| id.to_owned()),
        };
        (name.to_owned(), secrets)
    };
    Ok(logins.into_iter().map(secrets).collect())
}

/// One entry: the target's name, the secret's id, whether it is the migrating login's.
fn read(entry: &str) -> Result<(&str, &str, bool), &'static str> {
    let (name, id) = entry
        .split_once('=')
        .ok_or("is no name and secret: must look like reports=pgvigil/reports")?;
    let (name, id) = (name.trim(), id.trim());
    let (name, is_migration) = match name.strip_suffix(MIGRATION) {
        Some(name) => (name, true),
        None => (name, false),
    };
    if !is_name(name) {
        return Err(
            "has a bad name: must be 1 to 63 of a to z, 0 to 9 and -, and not begin with -",
        );
    }
    if name == DEFAULT_TARGET {
        return Err(
            "is called default, which is the database of DATABASE_SECRET_ID: choose another name",
        );
    }
    let is_id_character = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '=' | '.' | '@' | '-' | ':')
    };
    if id.is_empty() || !id.chars().all(is_id_character) {
        return Err("names no secret: must be the id or the ARN of one");
    }
    Ok((name, id, is_migration))
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_secrets() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a=b-AbCdEf";
        let list = format!(" reports = pgvigil/reports, 2-archive={arn} ,reports.migration=owner,");
        let targets = parse(&list).expect("reading a good list");
        let of = |login: &str, migration: Option<&str>| Secrets {
            login: login.to_owned(),
            migration: migration.map(str::to_owned),
        };
        let expected = [
            ("2-archive".to_owned(), of(arn, None)),
            ("reports".to_owned(), of("pgvigil/reports", Some("owner"))),
        ];
        assert_eq!(targets, BTreeMap::from(expected));
        assert_eq!(parse(" , "), Ok(BTreeMap::new()));
    }

    #[test]
    fn each_mistake_is_told_and_none_repeated() {
        let long = "a".repeat(64);
        let hunter = format!("{long}=hunter2");
        for (list, hint) in [
            ("hunter2", "entry 1, is no name and secret"),
            (
                "a=s,postgres://u:hunter2@h/d?x=y",
                "entry 2, has a bad name",
            ),
            ("Reports=hunter2", "bad name"),
            ("_a=hunter2", "bad name"),
            ("-a=hunter2", "bad name"),
            ("=hunter2", "bad name"),
            (".migration=hunter2", "bad name"),
            (hunter.as_str(), "bad name"),
            ("default=hunter2", "DATABASE_SECRET_ID"),
            ("a=", "names no secret"),
            ("a={\"password\":\"hunter2\"}", "names no secret"),
            ("a=s,a=hunter2", "holds a twice"),
            ("a.migration=hunter2", "without a"),
        ] {
            let problems = parse(list).expect_err("a bad list must be refused");
            assert_eq!(problems.len(), 1, "{problems:?}");
            let problem = &problems[0];
            assert!(
                problem.starts_with("DATABASE_TARGETS") && problem.contains(hint),
                "{list}: {problem}"
            );
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let problems = parse("A=s,b,c.migration=s").expect_err("three mistakes");
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}

//! The configured databases by name. Nothing is shared between them but the process: each has its own connection, its own
//! credentials and its own failures.

use std::{collections::BTreeMap, sync::Arc};

use super::Database;
use crate::{
    config::{Config, DEFAULT_TARGET},
    secrets::SecretStore,
};

/// All databases of this instance.
#[derive(Debug)]
pub struct Targets {
    default: Database,
    named: BTreeMap<String, Database>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What events, requests and metrics call it.
    pub name: &'a str,
    /// How it is reached.
    pub database: &'a Database,
}

impl Targets {
    /// Prepares access to each; connects to nothing yet.
    pub fn new(config: &Config, secrets: Option<&Arc<SecretStore>>) -> Self {
        let reached = |(name, config)| {
            let database = Database::new(config, secrets.cloned());
            (String::clone(name), database)
        };
        Self {
            default: Database::new(&config.database, secrets.cloned()),
            named: config.targets.iter().map(reached).collect(),
        }
    }

    /// The one that is meant where none is named.
    pub fn default_target(&self) -> Target<'_> {
        Target {
            name: DEFAULT_TARGET,
            database: &self.default,
        }
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<Target<'_>> {
        if name == DEFAULT_TARGET {
            return Some(self.default_target());
        }
        let (name, database) = self.named.get_key_value(name)?;
        Some(Target { name, database })
    }

    /// All names, the default one's first.
    pub fn list(&self) -> Vec<&str> {
        let named = self.named.keys().map(String::as_str);
        std::iter::once(DEFAULT_TARGET).chain(named).collect()
    }

    /// The same as an error tells them.
    pub fn names(&self) -> String {
        self.list().join(", ")
    }
}

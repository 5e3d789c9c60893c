//! A caller of the database: which login, which role, which claims.

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::database::TestDatabase;
use super::postgres::SUPERUSER;
use super::templates::{FRESH_LOGIN, MONITOR};

/// Where PostgREST and the monitor put a token's claims.
pub(crate) const CLAIMS: &str = "request.jwt.claims";

/// Everybody whom a privilege test has to ask.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// An API caller with these claims.
    Reader(Value),
    /// A scheduled task.
    Agent,
    /// The role that owns the monitor's objects.
    Owner,
    /// What the calendar view is read as.
    Calendar,
    /// What the operator organization's members are read as.
    Members,
    Superuser,
    /// The role that ran the migrations.
    Migrator,
    /// Supabase's API without a token.
    Anon,
    /// Supabase's API with a user's token.
    Authenticated(Value),
    /// Supabase's API with the service key.
    ServiceRole,
    /// The monitor's login role before it has become any other.
    Login,
    /// A login role that nobody has granted anything.
    FreshLogin,
    /// Another caller's roles without its claims, and with these parameters as they are: what a token cannot hold.
    Raw(Box<Caller>, Vec<(&'static str, String)>),
}

impl Caller {
    /// Who signs in, and what they switch to.
    fn roles(&self, database: &TestDatabase) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Reader(_) => (MONITOR, Some("monitoring_reader")),
            Self::Agent => (MONITOR, Some("monitoring_agent")),
            Self::Owner => (SUPERUSER, Some("monitoring_owner")),
            Self::Calendar => (SUPERUSER, Some("monitoring_calendar")),
            Self::Members => (SUPERUSER, Some("monitoring_members")),
            Self::Superuser => (SUPERUSER, None),
            Self::Migrator => (database.migrator(), None),
            Self::Anon => ("authenticator", Some("anon")),
            Self::Authenticated(_) => ("authenticator", Some("authenticated")),
            Self::ServiceRole => ("authenticator", Some("service_role")),
            Self::Login => (MONITOR, None),
            Self::FreshLogin => (FRESH_LOGIN, None),
            Self::Raw(caller, _) => caller.roles(database),
        }
    }

    /// The parameters that whoever signs the caller in sets for the session.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let claims = |claims: &Value| vec![(CLAIMS, claims.to_string())];
        match self {
            Self::Reader(signed) | Self::Authenticated(signed) => claims(signed),
            Self::Anon => claims(&json!({ "role": "anon" })),
            Self::ServiceRole => claims(&json!({ "role": "service_role" })),
            Self::Raw(_, parameters) => parameters.clone(),
            _ => Vec::new(),
        }
    }
}

impl TestDatabase {
    /// Opens a session as this caller, which lasts for as long as the client is kept.
    pub(crate) async fn as_caller(&self, caller: Caller) -> Client {
        let (login, role) = caller.roles(self);
        let client = self.session(login).await;
        for (name, value) in caller.parameters() {
            let set = "select set_config($1, $2, false)";
            let set = client.execute(set, &[&name, &value]).await;
            set.expect("setting the claims");
        }
        if let Some(role) = role {
            let set = client.batch_execute(&format!("set role {role}")).await;
            set.unwrap_or_else(|error| panic!("becoming {caller:?}: {error}"));
        }
        client
    }
}

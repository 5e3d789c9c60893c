//! Configuration: everything that is read from the environment, checked at once.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `DATABASE_SECRET_ID` | RDS-format secret with the monitor's login | one of the two |
//! | `DATABASE_URL` | connection URL for local use, loopback only | is required |
//! | `MIGRATION_SECRET_ID` | RDS-format secret for `migrate` and `rollback` | those tasks refuse |
//! | `DATABASE_TARGETS` | further databases: `name=secret,name.migration=secret,…` | only the default one |
//! | `DATABASE_TLS` | `verify-full`, or `disable` on loopback | `verify-full` |
//! | `DATABASE_CA_FILE` | PEM file with further root certificates | none |
//! | `AUTH_MODE` | `gateway` (claims from API Gateway) or `token` (verified here) | `gateway` |
//! | `AUTH_SECRET_ID` | secret with the HS256 key or the JWK set | required for `token` |
//! | `AUTH_ISSUER` | the `iss` a token must carry | not checked |
//! | `AUTH_AUDIENCE` | the `aud` a token must carry | not checked |
//! | `AUTH_ROLE_CLAIM` | claim with the caller's role, a name or a dotted path | `app_metadata.role` |
//! | `ALLOWED_ORIGINS` | comma-separated origins for CORS | none |
//! | `DASHBOARD_OIDC_ISSUER` | OpenID Connect issuer that the dashboard offers to sign in with | a token is pasted |
//! | `DASHBOARD_OIDC_CLIENT_ID` | what the dashboard is called there, a public client | required with the issuer |
//! | `DASHBOARD_OIDC_SCOPE` | the scopes it asks for, with blanks between them | `openid` |
//! | `EVENT_BUS_NAME` | EventBridge bus on which events are announced, by name or ARN | nothing is announced |
//! | `CLOUDWATCH_METRICS` | numbers of a sample that CloudWatch takes as metrics: names, `all` or `none` | `DatabaseReachable` |
//! | `RUST_LOG` | log filter of tracing-subscriber | `warn,pgvigil=info` |

mod dashboard;
mod metrics;
mod targets;

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf};

use tokio_postgres::config::{Host, SslMode};
use tracing_subscriber::EnvFilter;

pub use dashboard::{DashboardConfig, Oidc};
pub use metrics::{CloudWatchMetrics, METRICS};
pub use targets::DEFAULT_TARGET;

/// The whole configuration of the function.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the database that is meant where none is named.
    pub database: DatabaseConfig,
    /// How to reach the others, by name, from `DATABASE_TARGETS`.
    pub targets: BTreeMap<String, DatabaseConfig>,
    /// How callers of the API are recognised.
    pub auth: AuthConfig,
    /// Origins that browsers may call the API from, from `ALLOWED_ORIGINS`.
    pub allowed_origins: Vec<String>,
    /// What the dashboard is told, from `DASHBOARD_OIDC_…`.
    pub dashboard: DashboardConfig,
    /// Where events are announced, from `EVENT_BUS_NAME`.
    pub event_bus: Option<String>,
    /// What CloudWatch takes of a sample, from `CLOUDWATCH_METRICS`.
    pub cloudwatch_metrics: CloudWatchMetrics,
    /// Log filter, from `RUST_LOG`.
    pub log_filter: String,
}

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Where the monitor's login comes from, from `DATABASE_SECRET_ID` or `DATABASE_URL`.
    pub login: LoginSource,
    /// Where the login for `migrate` and `rollback` comes from, from `MIGRATION_SECRET_ID`.
    pub migration_login: Option<LoginSource>,
    /// From `DATABASE_TLS`.
    pub tls: Tls,
    /// From `DATABASE_CA_FILE`.
    pub ca_file: Option<PathBuf>,
}

/// Where host, user and password come from.
#[derive(Clone, PartialEq, Eq)]
pub enum LoginSource {
    /// A secret of Secrets Manager in the format of RDS: username, password, host, port, dbname.
    Secret(String),
    /// A connection URL on loopback.
    Url(Box<tokio_postgres::Config>),
}

impl fmt::Debug for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(id) => write!(f, "Secret({id})"),
            Self::Url(_) => f.write_str("Url(…)"),
        }
    }
}

/// Whether the connection is encrypted; there is no fallback between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// The server's certificate must be signed by a known root and carry the host's name.
    VerifyFull,
    /// No encryption, for a server on loopback.
    Disable,
}

/// How callers of the API are recognised.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// From `AUTH_MODE` and `AUTH_SECRET_ID`.
    pub mode: AuthMode,
    /// From `AUTH_ISSUER`.
    pub issuer: Option<String>,
    /// From `AUTH_AUDIENCE`.
    pub audience: Option<String>,
    /// From `AUTH_ROLE_CLAIM`.
    pub role_claim: String,
}

/// Who verifies the caller's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthMode {
    /// API Gateway's authorizer did; its claims are in the request context.
    Gateway,
    /// This function does, with keys from this secret.
    Token {
        /// The secret with the HS256 key or the JWK set.
        secret_id: String,
    },
}

/// The configuration is refused; every problem is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One sentence a problem, each naming the variable and the way out.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// What is logged unless `RUST_LOG` says otherwise: our own events, and what goes wrong in the libraries.
pub const DEFAULT_LOG_FILTER: &str = "warn,pgvigil=info";

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// Lists every bad or missing variable at once.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// Reads the configuration from any source of variables; an empty value counts as absent.
    ///
    /// # Errors
    ///
    /// Lists every bad or missing variable at once.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            vars,
            problems: Vec::new(),
        };
        let tls = reader.tls();
        let database = DatabaseConfig {
            login: reader.login(),
            migration_login: reader.var("MIGRATION_SECRET_ID").map(LoginSource::Secret),
            tls,
            ca_file: reader.ca_file(),
        };
        let config = Self {
            targets: reader.targets(&database),
            database,
            auth: AuthConfig {
                mode: reader.auth_mode(),
                issuer: reader.var("AUTH_ISSUER"),
                audience: reader.var("AUTH_AUDIENCE"),
                role_claim: reader.role_claim(),
            },
            allowed_origins: reader.allowed_origins(),
            dashboard: reader.dashboard(),
            event_bus: reader.event_bus(),
            cloudwatch_metrics: reader.cloudwatch_metrics(),
            log_filter: reader.log_filter(),
        };
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(reader.problems))
        }
    }
}

/// Reads variables and remembers what is wrong with them.
struct Reader<F> {
    vars: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn var(&self, name: &str) -> Option<String> {
        (self.vars)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    fn tls(&mut self) -> Tls {
        match self.var("DATABASE_TLS").as_deref() {
            // Said in the URL, which is for loopback only, it is said as well.
            None if self.url_disables_tls() => Tls::Disable,
            None | Some("verify-full") => Tls::VerifyFull,
            Some("disable") => Tls::Disable,
            Some(other) => {
                let problem = format!(
                    "DATABASE_TLS is \"{other}\": must be verify-full or disable (loopback only)"
                );
                self.problem(problem);
                Tls::VerifyFull
            }
        }
    }

    fn url_disables_tls(&self) -> bool {
        let url = self.var("DATABASE_URL").unwrap_or_default();
        url.parse::<tokio_postgres::Config>()
            .is_ok_and(|url| url.get_ssl_mode() == SslMode::Disable)
    }

    fn login(&mut self) -> LoginSource {
        let nothing = LoginSource::Secret(String::new());
        match (self.var("DATABASE_SECRET_ID"), self.var("DATABASE_URL")) {
            (Some(_), Some(_)) => {
                self.problem("DATABASE_SECRET_ID and DATABASE_URL are both set: keep one of them");
                nothing
            }
            (None, None) => {
                self.problem("DATABASE_SECRET_ID is missing: name the secret with the monitor's login, or set DATABASE_URL for local use");
                nothing
            }
            (Some(id), None) => LoginSource::Secret(id),
            (None, Some(url)) => self.login_from_url(&url).unwrap_or(nothing),
        }
    }

    fn login_from_url(&mut self, url: &str) -> Option<LoginSource> {
        // The parser's own message can hold a part of the URL, and so of the password.
        let Ok(url) = url.parse::<tokio_postgres::Config>() else {
            self.problem("DATABASE_URL is no connection URL: must look like postgres://user:password@127.0.0.1:5432/database");
            return None;
        };
        if url.get_hosts().is_empty()
            || !url.get_hosts().iter().all(is_loopback_host)
            || !url.get_hostaddrs().iter().all(IpAddr::is_loopback)
        {
            self.problem("DATABASE_URL names a host that is not loopback: use DATABASE_SECRET_ID, so that no password stands in the environment");
            return None;
        }
        Some(LoginSource::Url(Box::new(url)))
    }

    fn targets(&mut self, default: &DatabaseConfig) -> BTreeMap<String, DatabaseConfig> {
        let list = self.var("DATABASE_TARGETS").unwrap_or_default();
        let targets = targets::parse(&list).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            BTreeMap::new()
        });
        let reached = |(name, secrets): (String, targets::Secrets)| {
            let database = DatabaseConfig {
                login: LoginSource::Secret(secrets.login),
                migration_login: secrets.migration.map(LoginSource::Secret),
                tls: default.tls,
                ca_file: default.ca_file.clone(),
            };
            (name, database)
        };
        targets.into_iter().map(reached).collect()
    }

    fn ca_file(&mut self) -> Option<PathBuf> {
        let path = PathBuf::from(self.var("DATABASE_CA_FILE")?);
        if !path.is_file() {
            self.problem(format!(
                "DATABASE_CA_FILE is {}: there is no such file",
                path.display()
            ));
        }
        Some(path)
    }

    fn auth_mode(&mut self) -> AuthMode {
        match self.var("AUTH_MODE").as_deref() {
            None | Some("gateway") => AuthMode::Gateway,
            Some("token") => match self.var("AUTH_SECRET_ID") {
                Some(secret_id) => AuthMode::Token { secret_id },
                None => {
                    self.problem("AUTH_SECRET_ID is missing: AUTH_MODE token needs the secret with the HS256 key or the JWK set");
                    AuthMode::Gateway
                }
            },
            Some(other) => {
                let problem = format!("AUTH_MODE is \"{other}\": must be gateway or token");
                self.problem(problem);
                AuthMode::Gateway
            }
        }
    }

    fn role_claim(&mut self) -> String {
        let claim = self
            .var("AUTH_ROLE_CLAIM")
            .unwrap_or_else(|| "app_metadata.role".to_owned());
        if claim == "user_metadata" || claim.starts_with("user_metadata.") {
            self.problem(format!(
                "AUTH_ROLE_CLAIM is \"{claim}\": users write user_metadata themselves, so it must be another claim"
            ));
        }
        claim
    }

    fn allowed_origins(&mut self) -> Vec<String> {
        let list = self.var("ALLOWED_ORIGINS").unwrap_or_default();
        let origins: Vec<String> = list
            .split(',')
            .map(|origin| origin.trim().to_owned())
            .filter(|o| !o.is_empty())
            .collect();
        for origin in &origins {
            let authority = origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"));
            if !authority.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' '])) {
                self.problem(format!(
                    "ALLOWED_ORIGINS holds \"{origin}\": each must be scheme and host, like https://dashboard.example.com"
                ));
            }
        }
        origins
    }

    fn dashboard(&mut self) -> DashboardConfig {
        let issuer = self.var("DASHBOARD_OIDC_ISSUER");
        let client_id = self.var("DASHBOARD_OIDC_CLIENT_ID");
        let scope = self.var("DASHBOARD_OIDC_SCOPE");
        dashboard::parse(issuer, client_id, scope).unwrap_or_else(|problems| {
            self.problems.extend(problems);
            DashboardConfig::default()
        })
    }

    fn event_bus(&mut self) -> Option<String> {
        let name = self.var("EVENT_BUS_NAME")?;
        let in_name = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let is_name = name.len() <= 256 && name.chars().all(in_name);
        let is_arn = name.starts_with("arn:")
            && name.contains(":event-bus/")
            && name.chars().all(|c| in_name(c) || c == ':');
        if !is_name && !is_arn {
            self.problem("EVENT_BUS_NAME names no event bus: must be a name like default, or an ARN like arn:aws:events:eu-west-2:123456789012:event-bus/default");
        }
        Some(name)
    }

    fn cloudwatch_metrics(&mut self) -> CloudWatchMetrics {
        let list = self.var("CLOUDWATCH_METRICS").unwrap_or_default();
        CloudWatchMetrics::parse(&list).unwrap_or_else(|problem| {
            self.problem(problem);
            CloudWatchMetrics::default()
        })
    }

    fn log_filter(&mut self) -> String {
        let filter = self
            .var("RUST_LOG")
            .unwrap_or_else(|| DEFAULT_LOG_FILTER.to_owned());
        if let Err(error) = EnvFilter::try_new(&filter) {
            self.problem(format!("RUST_LOG is \"{filter}\": {error}"));
        }
        filter
    }
}

fn is_loopback_host(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => is_loopback(name),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Whether a host's name or address can only mean this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars: std::collections::HashMap<_, _> = vars.iter().copied().collect();
        Config::from_vars(|name| vars.get(name).map(|&value| value.to_owned()))
    }

    fn problems(vars: &[(&str, &str)]) -> Vec<String> {
        read(vars)
            .expect_err("these variables must be refused")
            .problems()
            .to_vec()
    }

    #[test]
    fn three_mistakes_are_all_named() {
        let problems = problems(&[
            ("DATABASE_TLS", "prefer"),
            ("AUTH_MODE", "token"),
            ("ALLOWED_ORIGINS", "*"),
        ]);
        assert_eq!(problems.len(), 4, "{problems:?}");
        for (problem, name) in problems.iter().zip([
            "DATABASE_TLS",
            "DATABASE_SECRET_ID",
            "AUTH_SECRET_ID",
            "ALLOWED_ORIGINS",
        ]) {
            assert!(problem.starts_with(name), "{problem}");
        }
    }

    #[test]
    fn further_databases_are_reached_as_safely() {
        let config = read(&[
            ("DATABASE_SECRET_ID", "a"),
            ("DATABASE_TARGETS", "reports=b,reports.migration=c"),
        ])
        .expect("reading two databases");
        let reports = &config.targets["reports"];
        assert_eq!(reports.login, LoginSource::Secret("b".to_owned()));
        assert_eq!(
            reports.migration_login,
            Some(LoginSource::Secret("c".to_owned()))
        );
        assert_eq!(reports.tls, Tls::VerifyFull);
        let problems = problems(&[("DATABASE_TARGETS", "Reports=b,b"), ("AUTH_MODE", "maybe")]);
        let of_targets = problems
            .iter()
            .filter(|p| p.starts_with("DATABASE_TARGETS"));
        assert_eq!((of_targets.count(), problems.len()), (2, 4), "{problems:?}");
    }

    #[test]
    fn a_bus_is_named_or_there_is_none() {
        for (value, named) in [
            ("", None),
            ("default", Some("default")),
            ("my.bus/a_1-2", Some("my.bus/a_1-2")),
            (
                "arn:aws-cn:events:cn-north-1:123456789012:event-bus/default",
                Some("arn:aws-cn:events:cn-north-1:123456789012:event-bus/default"),
            ),
        ] {
            let config = read(&[("DATABASE_SECRET_ID", "a"), ("EVENT_BUS_NAME", value)]);
            assert_eq!(config.expect(value).event_bus.as_deref(), named);
        }
        for value in ["a bus", "arn:aws:sns:eu-west-2:123456789012:topic", "büs"] {
            let problems = problems(&[("DATABASE_SECRET_ID", "a"), ("EVENT_BUS_NAME", value)]);
            assert!(problems[0].starts_with("EVENT_BUS_NAME"), "{problems:?}");
        }
    }

    #[test]
    fn defaults_are_the_safe_ones() {
        let config = read(&[
            ("DATABASE_SECRET_ID", "pgvigil/database"),
            ("AUTH_MODE", " "),
        ])
        .expect("reading the minimum");
        assert_eq!(config.database.tls, Tls::VerifyFull);
        assert_eq!(config.auth.mode, AuthMode::Gateway);
        assert_eq!(config.auth.role_claim, "app_metadata.role");
        assert!(config.allowed_origins.is_empty() && config.targets.is_empty());
        assert!(config.database.migration_login.is_none());
        assert_eq!(config.cloudwatch_metrics, CloudWatchMetrics::default());
    }

    #[test]
    fn url_is_for_loopback_only() {
        for (url, is_accepted) in [
            ("postgres://u:p@127.0.0.1:5432/d", true),
            ("postgres://u:p@localhost/d", true),
            ("postgres://u:p@[::1]/d", true),
            ("postgres://u:p@db.example.com/d", false),
            ("postgres://u:p@127.0.0.1,10.0.0.1/d", false),
            ("postgres://u:p@localhost/d?hostaddr=10.0.0.5", false),
            ("postgres:///d", false),
            ("not a url \u{0}", false),
        ] {
            assert_eq!(
                read(&[("DATABASE_URL", url), ("DATABASE_TLS", "disable")]).is_ok(),
                is_accepted,
                "{url}"
            );
        }
    }

    #[test]
    fn tls_is_given_up_only_where_it_is_said() {
        for (url, expected) in [
            ("postgres://u:p@localhost/d", Tls::VerifyFull),
            ("postgres://u:p@localhost/d?sslmode=prefer", Tls::VerifyFull),
            ("postgres://u:p@localhost/d?sslmode=disable", Tls::Disable),
        ] {
            let config = read(&[("DATABASE_URL", url)]).expect("reading a local URL");
            assert_eq!(config.database.tls, expected, "{url}");
        }
    }

    #[test]
    fn no_problem_repeats_a_password() {
        for url in [
            "postgres://u:hunter2@db.example.com/d",
            "postgres://u:hunter2@127.0.0.1:port/d",
            "hunter2",
        ] {
            let text = problems(&[("DATABASE_URL", url)]).join(" ");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn debug_output_hides_the_url() {
        let config = read(&[("DATABASE_URL", "postgres://u:hunter2@localhost/d")])
            .expect("reading a local URL");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn both_sources_of_a_login_are_refused() {
        let problems = problems(&[
            ("DATABASE_SECRET_ID", "a"),
            ("DATABASE_URL", "postgres://u:p@localhost/d"),
        ]);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("both"));
    }
}

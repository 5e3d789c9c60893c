//! `DASHBOARD_OIDC_…`: where the dashboard's visitors sign in, if not by a token of their own.

/// What the dashboard needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DashboardConfig {
    /// The issuer to sign in with; none: tokens are pasted.
    pub oidc: Option<Oidc>,
}

/// An `OpenID` Connect issuer, and what the page is called there. Public, all of it: the page tells it to everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oidc {
    /// From `DASHBOARD_OIDC_ISSUER`.
    pub issuer: String,
    /// From `DASHBOARD_OIDC_CLIENT_ID`.
    pub client_id: String,
    /// From `DASHBOARD_OIDC_SCOPE`.
    pub scope: String,
}

impl Oidc {
    /// Scheme, host and port of the issuer: what the page may talk to beside the function.
    pub fn origin(&self) -> &str {
        origin_of(&self.issuer).unwrap_or_default()
    }
}

/// Reads the three together.
///
/// # Errors
///
/// One sentence for each that is wrong or missing beside the others.
pub(super) fn parse(
    issuer: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
) -> Result<DashboardConfig, Vec<String>> {
    let mut problems = Vec::new();
    let mut problem = |text: &str| problems.push(text.to_owned());
    if let Some(issuer) = &issuer
        && !is_issuer(issuer)
    {
        problem(&format!(
            "DASHBOARD_OIDC_ISSUER is \"{issuer}\": must be https, host and path without a query, like https://login.example.com/realm (http on loopback only)"
        ));
    }
    let is_printable =
        |text: &str, besides: char| text.chars().all(|c| c.is_ascii_graphic() || c == besides);
    if client_id
        .as_deref()
        .is_some_and(|id| !is_printable(id, '-'))
    {
        problem(
            "DASHBOARD_OIDC_CLIENT_ID is no client's id: must be printable ASCII without blanks",
        );
    }
    if let Some(scope) = &scope
        && (!is_printable(scope, ' ') || !scope.split(' ').any(|word| word == "openid"))
    {
        problem(&format!(
            "DASHBOARD_OIDC_SCOPE is \"{scope}\": must be scopes with blanks between them, openid among them"
        ));
    }
    match (issuer, client_id) {
        (Some(issuer), Some(client_id)) if problems.is_empty() => Ok(DashboardConfig {
            oidc: Some(Oidc {
                issuer,
                client_id,
                scope: scope.unwrap_or_else(|| "openid".to_owned()),
            }),
        }),
        (None, None) if problems.is_empty() && scope.is_none() => Ok(DashboardConfig::default()),
        (issuer, client_id) => {
            let mut missing = |is_missing: bool, name: &str| {
                if is_missing {
                    problems.push(format!(
                        "{name} is missing: DASHBOARD_OIDC_ISSUER and DASHBOARD_OIDC_CLIENT_ID are set together, or neither"
                    ));
                }
            };
            missing(issuer.is_none(), "DASHBOARD_OIDC_ISSUER");
            missing(client_id.is_none(), "DASHBOARD_OIDC_CLIENT_ID");
            Err(problems)
        }
    }
}

/// Whether it is an issuer (`OpenID` Connect Discovery, section 4.3) whose origin can stand in a header as it is.
fn is_issuer(issuer: &str) -> bool {
    let is_plain = issuer.chars().all(|c| c.is_ascii_graphic()) && !issuer.contains(['?', '#']);
    let Some(origin) = origin_of(issuer).filter(|_| is_plain) else {
        return false;
    };
    let (scheme, authority) = origin.split_once("://").unwrap_or_default();
    let is_authority = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, port)| {
            if port.chars().all(|c| c.is_ascii_digit()) {
                host
            } else {
                authority
            }
        });
    !host.is_empty()
        && authority.chars().all(is_authority)
        && (scheme == "https" || super::is_loopback(host.trim_matches(['[', ']'])))
}

/// The part before the path.
fn origin_of(issuer: &str) -> Option<&str> {
    let rest = issuer
        .strip_prefix("https://")
        .or_else(|| issuer.strip_prefix("http://"))?;
    let scheme_bytes = issuer.len() - rest.len();
    let authority_bytes = rest.find('/').unwrap_or(rest.len());
    issuer.get(..scheme_bytes + authority_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(issuer: &str, client_id: &str, scope: &str) -> Result<DashboardConfig, Vec<String>> {
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        parse(set(issuer), set(client_id), set(scope))
    }

    #[test]
    fn an_issuer_is_known_by_its_origin() {
        for (issuer, origin) in [
            ("https://login.example.com", "https://login.example.com"),
            (
                "https://login.example.com:8443/realms/a/",
                "https://login.example.com:8443",
            ),
            ("http://localhost:5556/dex", "http://localhost:5556"),
            ("http://127.0.0.1:5556", "http://127.0.0.1:5556"),
            ("http://[::1]:5556/dex", "http://[::1]:5556"),
        ] {
            let config = read(issuer, "pgvigil", "").expect(issuer);
            let oidc = config.oidc.expect("an issuer");
            assert_eq!((oidc.origin(), oidc.scope.as_str()), (origin, "openid"));
        }
        assert_eq!(read("", "", ""), Ok(DashboardConfig::default()));
    }

    /// What stands in a header must not add to it.
    #[test]
    fn nothing_else_is_an_issuer() {
        for issuer in [
            "login.example.com",
            "http://login.example.com",
            "https://",
            "https:///realm",
            "https://:443",
            "https://a;script-src",
            "https://a 'unsafe-inline'",
            "https://*",
            "https://user@login.example.com",
            "https://login.example.com?x",
            "https://login.example.com/#x",
            "https://lögin.example.com",
            "https://login.example.com,",
            "javascript:alert(1)",
        ] {
            let problems = read(issuer, "pgvigil", "").expect_err(issuer);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with("DASHBOARD_OIDC_ISSUER is"),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn each_that_is_wrong_or_missing_is_named() {
        let named = |issuer, client_id, scope| {
            let problems = read(issuer, client_id, scope).expect_err("a problem");
            let first = |problem: &String| problem.split(' ').next().map(str::to_owned);
            problems
                .iter()
                .filter_map(first)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            named("https://a.example", "", ""),
            "DASHBOARD_OIDC_CLIENT_ID"
        );
        assert_eq!(named("", "pgvigil", ""), "DASHBOARD_OIDC_ISSUER");
        assert_eq!(
            named("", "", "openid"),
            "DASHBOARD_OIDC_ISSUER DASHBOARD_OIDC_CLIENT_ID"
        );
        assert_eq!(
            named("a", "b c", "email"),
            "DASHBOARD_OIDC_ISSUER DASHBOARD_OIDC_CLIENT_ID DASHBOARD_OIDC_SCOPE"
        );
    }
}

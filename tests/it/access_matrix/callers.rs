//! Who is asked: every database role, and the API's roles with every kind of claims.

use serde_json::{Value, json};

use crate::support::app::SUBJECT;
use crate::support::caller::{CLAIMS, Caller};
use crate::support::postgres::Flavour;

const OPERATOR: &str = "11111111-1111-1111-1111-111111111111";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";

/// Members of organizations: who, in which, as what. The file says the words instead of the identifiers.
const MEMBERS: [(&str, &str, &str, &str); 6] = [
    (
        "a0000000-0000-4000-8000-000000000001",
        OPERATOR,
        "owner",
        "the operator's owner",
    ),
    (
        "a0000000-0000-4000-8000-000000000002",
        OPERATOR,
        "Admin",
        "the operator's admin",
    ),
    (
        "a0000000-0000-4000-8000-000000000003",
        OPERATOR,
        "developer",
        "the operator's developer",
    ),
    (
        "a0000000-0000-4000-8000-000000000004",
        OPERATOR,
        "member",
        "the operator's member",
    ),
    (
        "b0000000-0000-4000-8000-000000000001",
        TENANT,
        "owner",
        "a tenant's owner",
    ),
    (
        "b0000000-0000-4000-8000-000000000002",
        TENANT,
        "ADMIN",
        "a tenant's admin",
    ),
];

/// A caller as the files name it.
pub(super) struct Asked {
    /// Unique, and without two spaces in a row.
    pub(super) name: String,
    /// Two short words for the head of a column.
    pub(super) head: [&'static str; 2],
    /// How it signs in, in words.
    pub(super) means: String,
    pub(super) caller: Caller,
}

/// What a session of the API is told about its caller.
#[derive(Clone)]
enum Claims {
    Signed(Value),
    /// Parameters as they are, for what no token holds.
    Raw(Vec<(&'static str, String)>),
}

impl Claims {
    fn given_to(&self, role: fn(Value) -> Caller) -> Caller {
        match self {
            Self::Signed(claims) => role(claims.clone()),
            Self::Raw(parameters) => Caller::Raw(Box::new(role(Value::Null)), parameters.clone()),
        }
    }

    fn means(&self) -> String {
        let text = match self {
            Self::Signed(claims) => claims.to_string(),
            Self::Raw(parameters) if parameters.is_empty() => "no parameter set".to_owned(),
            Self::Raw(parameters) => {
                let set = parameters
                    .iter()
                    .map(|(name, value)| format!("{name} = '{value}'"));
                set.collect::<Vec<_>>().join(", ")
            }
        };
        let people = MEMBERS.iter().map(|(id, _, _, words)| (*id, *words));
        people
            .chain([(SUBJECT, "somebody")])
            .fold(text, |text, (id, words)| text.replace(id, words))
    }
}

/// Everybody there is on this kind of database, strongest first.
pub(super) fn callers(flavour: Flavour) -> Vec<Asked> {
    let is_supabase = flavour == Flavour::Supabase;
    let admin = || vec![(CLAIMS, app_role("admin").to_string())];
    let raw = |caller, parameters| Caller::Raw(Box::new(caller), parameters);
    let mut all = vec![
        asked("superuser", ["super", ""], "", Caller::Superuser),
        asked(
            "owner",
            ["owner", ""],
            "a superuser's session, set role monitoring_owner (which cannot log in)",
            Caller::Owner,
        ),
        asked(
            "agent",
            ["agent", ""],
            "the monitor's login, set role monitoring_agent",
            Caller::Agent,
        ),
    ];
    if flavour != Flavour::Plain {
        all.push(asked(
            "migrator",
            ["migr", ""],
            "ran the migrations; no superuser",
            Caller::Migrator,
        ));
    }
    if is_supabase {
        all.push(asked(
            "service_role",
            ["srvc", "role"],
            "{\"role\":\"service_role\"}",
            Caller::ServiceRole,
        ));
        let silent = raw(Caller::ServiceRole, Vec::new());
        all.push(asked(
            "service_role, no claims",
            ["srvc", "role"],
            "no parameter set",
            silent,
        ));
    }
    let mut readers = with_claims("reader", "read", Caller::Reader);
    if flavour == Flavour::Rds {
        // What claims are worth does not depend on who migrated: two for those who are somebody and those who are not.
        readers
            .retain(|reader| ["reader, developer", "reader, no claims"].contains(&&*reader.name));
    }
    all.extend(readers);
    if is_supabase {
        all.extend(with_claims("authenticated", "auth", Caller::Authenticated));
    }
    all.push(asked(
        "calendar",
        ["calen", "dar"],
        "a superuser's session, set role monitoring_calendar (which cannot log in)",
        Caller::Calendar,
    ));
    all.push(asked(
        "members",
        ["mem-", "bers"],
        "a superuser's session, set role monitoring_members (which cannot log in)",
        Caller::Members,
    ));
    let means = "the monitor's login role, before it has become any other";
    all.push(asked("login", ["out-", "sider"], means, Caller::Login));
    let means = "the same, with an admin's claims";
    all.push(asked(
        "login, admin",
        ["out-", "sider"],
        means,
        raw(Caller::Login, admin()),
    ));
    let means = "a login role that nobody has granted anything";
    all.push(asked(
        "fresh login",
        ["out-", "sider"],
        means,
        Caller::FreshLogin,
    ));
    let means = "the same, with an admin's claims";
    all.push(asked(
        "fresh login, admin",
        ["out-", "sider"],
        means,
        raw(Caller::FreshLogin, admin()),
    ));
    if is_supabase {
        all.push(asked(
            "anon",
            ["anon", ""],
            "{\"role\":\"anon\"}",
            Caller::Anon,
        ));
        let means = "the same, with an admin's claims";
        all.push(asked(
            "anon, admin",
            ["anon", "admin"],
            means,
            raw(Caller::Anon, admin()),
        ));
    }
    all
}

/// Makes members of the operator's and of a tenant's organization; names the operator.
pub(super) fn organizations(flavour: Flavour) -> String {
    let mut sql = format!(
        "update monitoring.settings set value = to_jsonb('{OPERATOR}'::text) where key = 'operator_organization_id';\n"
    );
    if flavour == Flavour::Supabase {
        for (user, organization, role, _) in MEMBERS {
            sql.push_str(&format!(
                "insert into public.organization_members values ('{organization}', '{user}', '{role}');\n"
            ));
        }
    }
    sql
}

fn asked(name: &str, head: [&'static str; 2], means: &str, caller: Caller) -> Asked {
    Asked {
        name: name.to_owned(),
        head,
        means: means.to_owned(),
        caller,
    }
}

fn app_role(role: impl Into<Value>) -> Value {
    json!({"sub": SUBJECT, "app_metadata": {"role": role.into()}})
}

/// One role of the API with every kind of claims.
fn with_claims(name: &str, head: &'static str, role: fn(Value) -> Caller) -> Vec<Asked> {
    let asked = kinds_of_claims().into_iter().map(|(kind, claims)| Asked {
        name: format!("{name}, {kind}"),
        head: [head, head_of(kind)],
        means: claims.means(),
        caller: claims.given_to(role),
    });
    asked.collect()
}

fn head_of(kind: &str) -> &'static str {
    match kind {
        "service" => "servc",
        "admin" => "admin",
        "developer" => "devel",
        _ => "other",
    }
}

/// Those who are somebody first, then everything that only looks like it.
fn kinds_of_claims() -> Vec<(&'static str, Claims)> {
    let signed = |kind, claims| (kind, Claims::Signed(claims));
    let raw = |kind, text: &str| (kind, Claims::Raw(vec![(CLAIMS, text.to_owned())]));
    let mut all = vec![
        signed("service", app_role("service")),
        signed("Service", app_role("Service")),
        signed("admin", app_role("admin")),
        signed("aDMIN", app_role("aDMIN")),
        signed("owner", app_role("owner")),
        signed("OWNER", app_role("OWNER")),
        signed("developer", app_role("developer")),
        signed("Developer, padded", app_role(" Developer ")),
        signed(
            "Developer, in a list",
            app_role(json!(["caterer", "Developer"])),
        ),
    ];
    all.extend(MEMBERS.map(|(user, _, _, words)| signed(words, json!({ "sub": user }))));
    all.extend([
        ("no claims", Claims::Raw(Vec::new())),
        raw("empty claims", ""),
        raw("malformed claims", "{"),
        raw(
            "claims cut short",
            "{\"app_metadata\": {\"role\": \"admin\"",
        ),
        raw("a list cut short", "[1,2"),
        raw("claims that are no text", "\u{fffd}"),
        ("legacy claims", Claims::Raw(legacy_claims())),
        signed("an empty object", json!({})),
        signed("null", json!(null)),
        signed("a string", json!("admin")),
        signed("subject only", json!({ "sub": SUBJECT })),
        signed("another role", app_role("caterer")),
        signed("empty role", app_role("")),
        signed("admin in a list's text", app_role("planners,admin")),
        signed("developer in brackets", app_role("[planners developer]")),
        signed("not admin", app_role("not admin")),
        signed("role is an object", app_role(json!({ "admin": true }))),
        signed("role is true", app_role(true)),
        signed(
            "metadata is a string",
            json!({ "sub": SUBJECT, "app_metadata": "admin" }),
        ),
        signed(
            "forged user_metadata",
            json!({ "sub": SUBJECT, "user_metadata": { "role": "admin" } }),
        ),
        signed(
            "top-level admin",
            json!({ "sub": SUBJECT, "role": "admin" }),
        ),
        signed(
            "top-level service_role",
            json!({ "sub": SUBJECT, "role": "service_role" }),
        ),
    ]);
    all
}

/// What PostgREST set before version 9, and Supabase's `auth.uid()` still prefers: an admin, and the operator's owner.
fn legacy_claims() -> Vec<(&'static str, String)> {
    vec![
        (CLAIMS, String::new()),
        ("request.jwt.claim.role", "admin".to_owned()),
        ("request.jwt.claim.sub", MEMBERS[0].0.to_owned()),
        (
            "request.jwt.claim.app_metadata",
            json!({ "role": "admin" }).to_string(),
        ),
    ]
}

//! What a well-signed token says: until when, from whom, for whom, and which role. Rust and PostgreSQL read the same.

use serde_json::{Value, json};

use super::{PERFORMANCE, admin, ask, assert_accepted, assert_refused, caller, known_key, request};
use crate::support::app::{Request, TestApp};
use crate::support::caller::Caller;
use crate::support::postgres::{SUPERUSER, plain};
use crate::support::token::{AUDIENCE, ISSUER, fresh_subject};

const EXPIRED: &str = "it has expired";
const EARLY: &str = "it is not valid yet";
const ISSUER_IS_WRONG: &str = "its issuer is not the configured one";
const AUDIENCE_IS_WRONG: &str = "its audience is not the configured one";
const CLAIM: &str = "a required claim is missing or malformed";
const HEADER: &str = r#"{"alg":"HS256"}"#;

/// Claims of an admin in which one is this; `None` where they must be accepted.
async fn try_claim(app: &TestApp, name: &str, cases: &[(Value, Option<&str>)]) {
    for (value, refusal) in cases {
        let token = known_key().token(None, &caller("admin", &json!({ name: value })));
        let what = format!("{name}: {value}");
        match refusal {
            None => assert_accepted(app, &token, &what).await,
            Some(reason) => assert_refused(app, &token, reason, &what).await,
        }
    }
}

fn now() -> u64 {
    jsonwebtoken::get_current_timestamp()
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let cases = [
        (json!(now() - 100), Some(EXPIRED)),
        (json!(now() - 100_000_000), Some(EXPIRED)),
        (json!(0), Some(EXPIRED)),
        (json!(1.5), Some(EXPIRED)),
        // Clocks differ by so much.
        (json!(now() - 10), None),
        (json!(now() + 10), None),
    ];
    try_claim(&app, "exp", &cases).await;
}

#[tokio::test]
async fn a_token_ends_at_a_number_of_seconds_or_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let later = now() + 3600;
    let cases = [
        (Value::Null, Some(CLAIM)),
        (json!(later.to_string()), Some(CLAIM)),
        (json!("never"), Some(CLAIM)),
        (json!("2999-01-01T00:00:00Z"), Some(CLAIM)),
        (json!(-1), Some(CLAIM)),
        (json!(i64::MIN), Some(CLAIM)),
        (json!(1e300), Some(CLAIM)),
        (json!(true), Some(CLAIM)),
        (json!([later]), Some("")),
        (json!({ "at": later }), Some("")),
        // RFC 7519 calls it a number, and says nothing of how large.
        (
            json!(f64::from(u32::try_from(later).expect("narrowing")) + 0.5),
            None,
        ),
        (json!(u64::MAX), None),
    ];
    try_claim(&app, "exp", &cases).await;
    let claims = admin().to_string();
    for exp in [
        "1e400",
        "NaN",
        "0x7fffffff",
        "1_000",
        "99999999999999999999999999999",
        "null",
    ] {
        let claims = claims.replacen("\"exp\":", &format!("\"exp\":{exp},\"was\":"), 1);
        let answer = ask(&app, &known_key().token_with(HEADER, &claims)).await;
        assert_eq!((answer.status, exp), (401, exp), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_yet_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let cases = [
        (json!(now() + 100), Some(EARLY)),
        (json!(u64::MAX), Some(EARLY)),
        (json!(now() + 10), None),
        (json!(now() - 100), None),
        (Value::Null, None),
        (json!("tomorrow"), Some(CLAIM)),
        (json!((now() - 100).to_string()), Some(CLAIM)),
        (json!(-1), Some(CLAIM)),
        (json!([]), Some("")),
    ];
    try_claim(&app, "nbf", &cases).await;
}

/// When a token was issued decides nothing (RFC 7519, section 4.1.6): an issuer's fast clock locks nobody out.
#[tokio::test]
async fn when_it_was_issued_decides_nothing() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let cases = [
        (json!(now() + 3000), None),
        (json!(0), None),
        (json!("yesterday"), None),
        (Value::Null, None),
    ];
    try_claim(&app, "iat", &cases).await;
}

/// A list of issuers is how CVE-2025-30144 had another issuer's word taken for ours.
#[tokio::test]
async fn another_issuer_is_refused_also_among_several() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let cases = [
        (json!("https://evil.example"), Some(ISSUER_IS_WRONG)),
        (json!(format!("{ISSUER}/")), Some(ISSUER_IS_WRONG)),
        (json!(ISSUER.to_uppercase()), Some(ISSUER_IS_WRONG)),
        (json!(format!(" {ISSUER}")), Some(ISSUER_IS_WRONG)),
        (json!(&ISSUER[..ISSUER.len() - 1]), Some(ISSUER_IS_WRONG)),
        (json!(""), Some(ISSUER_IS_WRONG)),
        (json!([ISSUER]), Some(ISSUER_IS_WRONG)),
        (
            json!(["https://evil.example", ISSUER]),
            Some(ISSUER_IS_WRONG),
        ),
        (json!([]), Some(ISSUER_IS_WRONG)),
        (json!({ "iss": ISSUER }), Some(CLAIM)),
        (json!(7), Some(CLAIM)),
        (Value::Null, Some(CLAIM)),
        (json!(ISSUER), None),
    ];
    try_claim(&app, "iss", &cases).await;
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let cases = [
        (json!("another"), Some(AUDIENCE_IS_WRONG)),
        (json!(["another"]), Some(AUDIENCE_IS_WRONG)),
        (json!([]), Some(AUDIENCE_IS_WRONG)),
        (json!(""), Some(AUDIENCE_IS_WRONG)),
        (json!("authenticate"), Some(AUDIENCE_IS_WRONG)),
        (json!("AUTHENTICATED"), Some(AUDIENCE_IS_WRONG)),
        (json!("authenticated another"), Some(AUDIENCE_IS_WRONG)),
        (json!("*"), Some(AUDIENCE_IS_WRONG)),
        (json!({ "authenticated": true }), Some(CLAIM)),
        (json!([["authenticated"]]), Some(CLAIM)),
        (json!(true), Some(CLAIM)),
        (Value::Null, Some(CLAIM)),
        (json!(AUDIENCE), None),
        (json!([AUDIENCE]), None),
        (json!(["another", AUDIENCE]), None),
    ];
    try_claim(&app, "aud", &cases).await;
}

/// Each way to word a role, and the role that it is.
fn wordings() -> Vec<(Value, Option<&'static str>)> {
    let role = |role: Value| json!({ "app_metadata": { "role": role } });
    let mut wordings = vec![
        (
            json!({ "app_metadata": { "role": null }, "user_metadata": { "role": "owner" } }),
            None,
        ),
        (
            json!({ "app_metadata": null, "user_metadata": { "role": "owner", "app_metadata": { "role": "owner" } } }),
            None,
        ),
        (json!({ "app_metadata": null, "role": "owner" }), None),
        (
            json!({ "app_metadata": null, "role": "service_role" }),
            None,
        ),
        (json!({ "app_metadata": "owner" }), None),
        (json!({ "app_metadata": ["owner"] }), None),
        (json!({ "app_metadata": [{ "role": "owner" }] }), None),
        (json!({ "app_metadata": "{\"role\":\"owner\"}" }), None),
        (json!({ "app_metadata": { "ROLE": "owner" } }), None),
        (
            json!({ "App_Metadata": { "role": "owner" }, "app_metadata": null }),
            None,
        ),
        (json!({ "app_metadata": { "roles": ["owner"] } }), None),
        (
            json!({ "app_metadata": { "app_metadata": { "role": "owner" } } }),
            None,
        ),
    ];
    for (word, expected) in [
        ("owner", Some("owner")),
        ("OWNER", Some("owner")),
        ("OwNeR", Some("owner")),
        (" OWNER ", Some("owner")),
        ("SERVICE", Some("service")),
        ("Admin", Some("admin")),
        ("DEVELOPER", Some("developer")),
        ("", None),
        (" ", None),
        ("ｏwner", None),
        ("ＯＷＮＥＲ", None),
        ("owner\u{200b}", None),
        ("\u{feff}owner", None),
        ("own\u{ad}er", None),
        ("оwner", None),
        ("owner\u{301}", None),
        ("\u{202e}renwo", None),
        ("ſervice", None),
        ("adm\u{131}n", None),
        ("ADM\u{130}N", None),
        ("\u{1d428}wner", None),
        ("\towner", None),
        ("owner\n", None),
        ("\u{a0}owner", None),
        ("owner\u{3000}", None),
        ("\u{2003}owner\u{85}", None),
        ("owner\u{1}", None),
        ("owners", None),
        ("not owner", None),
        ("owner,admin", None),
        ("[owner]", None),
        ("\"owner\"", None),
        ("owner' or '1'='1", None),
        ("service_role", None),
        ("postgres", None),
        ("monitoring_owner", None),
        ("authenticated", None),
    ] {
        wordings.push((role(json!(word)), expected));
        wordings.push((role(json!(["caterer", word])), expected));
    }
    wordings.extend([
        (role(json!([])), None),
        (role(json!([["owner"]])), None),
        (role(json!([{ "role": "owner" }])), None),
        (role(json!(["developer", "OWNER"])), Some("owner")),
        (role(json!([7, null, "admin"])), Some("admin")),
        (role(json!({ "role": "owner" })), None),
        (role(json!({ "owner": true })), None),
        (role(json!(0)), None),
        (role(json!(1)), None),
        (role(json!(true)), None),
    ]);
    wordings
}

/// Compared without case, as it stands, and from nowhere else; by both guards alike, each on its own.
#[tokio::test]
async fn a_role_is_one_of_four_words_in_app_metadata_for_both_guards() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for (claims, expected) in wordings() {
        let claims = caller("", &claims);
        let token = known_key().token(None, &claims);
        let answer = ask(&app, &token).await;
        let status = if expected.is_some() { 200 } else { 403 };
        assert_eq!(answer.status, status, "{claims}: {}", answer.text);

        let resolve =
            json!({"action": "resolve_event", "event_id": "00000000-0000-0000-0000-000000000000"});
        let resolve = Request::post(PERFORMANCE, &resolve.to_string()).bearer(&token);
        let may_resolve = expected.is_some_and(|role| role != "developer");
        let status = if may_resolve { 404 } else { 403 };
        assert_eq!(app.send(resolve).await.status, status, "{claims}");

        let reader = database.as_caller(Caller::Reader(claims.clone())).await;
        let role = reader
            .query_one("select monitoring.caller_role()", &[])
            .await;
        let role: Option<String> = role.expect("asking for the role").get(0);
        assert_eq!(role.as_deref(), expected, "PostgreSQL of {claims}");
    }
}

/// Registered claims are judged by their reader's first or last; who says one twice is refused.
#[tokio::test]
async fn a_registered_claim_said_twice_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let (later, earlier) = (now() + 3600, now() - 3600);
    for more in [
        format!("\"exp\":{later}"),
        format!("\"exp\":{earlier}"),
        format!("\"\\u0065xp\":{later}"),
        format!("\"nbf\":{later},\"nbf\":{earlier}"),
        format!("\"iss\":\"{ISSUER}\""),
        "\"iss\":\"https://evil.example\"".to_owned(),
        format!("\"aud\":\"{AUDIENCE}\""),
        "\"aud\":[\"another\"]".to_owned(),
        "\"sub\":\"somebody else\"".to_owned(),
    ] {
        let claims = admin().to_string();
        let after = format!("{},{more}}}", claims.trim_end_matches('}'));
        // `app_metadata` closes with a brace of its own, wherever it stands.
        let after = if serde_json::from_str::<Value>(&after).is_ok() {
            after
        } else {
            format!("{},{more}}}", &claims[..claims.len() - 1])
        };
        let before = format!("{{{more},{}", &claims[1..]);
        for claims in [after, before] {
            let token = known_key().token_with(HEADER, &claims);
            assert_refused(&app, &token, "it is malformed", &claims).await;
        }
    }
}

/// Two parsers may pick two of a claim's values: here one parses, and the other is told what it found.
#[tokio::test]
async fn of_a_role_said_twice_both_guards_read_the_same_one() {
    let database = plain().database();
    let watch = "
        create table public.seen (role text, claims text);
        create function note() returns trigger language plpgsql security definer as $$
          begin insert into public.seen values (monitoring.caller_role(), current_setting('request.jwt.claims')); return new; end $$;
        create trigger note before insert on monitoring_events for each row execute function note();
        -- Opened, so that what the API refuses is Rust's refusal.
        create or replace function monitoring.authorize(p_action text) returns void language sql as 'select'";
    database.psql(SUPERUSER, watch).expect("watching");
    let app = TestApp::new(&database).await;
    let (developer, owner) = (r#"{"role":"developer"}"#, r#"{"role":"owner"}"#);
    for (words, expected) in [
        (
            format!(r#""app_metadata":{developer},"app_metadata":{owner}"#),
            Some("owner"),
        ),
        (
            format!(r#""app_metadata":{owner},"app_metadata":{developer}"#),
            Some("developer"),
        ),
        (
            format!(r#""app_metadata":{developer},"\u0061pp_metadata":{owner}"#),
            Some("owner"),
        ),
        (
            format!(r#""\u0061pp_metadata":{owner},"app_metadata":{developer}"#),
            Some("developer"),
        ),
        (
            r#""app_metadata":{"role":"developer","role":"owner"}"#.to_owned(),
            Some("owner"),
        ),
        (
            r#""app_metadata":{"role":"owner","role":"developer"}"#.to_owned(),
            Some("developer"),
        ),
        (
            r#""app_metadata":{"role":"owner","\u0072ole":"developer"}"#.to_owned(),
            Some("developer"),
        ),
        (
            r#""app_metadata":{"role":"owner","role":null}"#.to_owned(),
            None,
        ),
        (
            r#""app_metadata":{"role":"owner","role":"caterer"}"#.to_owned(),
            None,
        ),
        (
            r#""app_metadata":{"role":"owner","Role":"developer"}"#.to_owned(),
            Some("owner"),
        ),
        (
            format!(r#""app_metadata":{owner},"app_metadata":{{}}"#),
            None,
        ),
        (
            format!(r#""app_metadata":{owner},"app_metadata":null"#),
            None,
        ),
        (
            format!(r#""app_metadata":{owner},"app_metadata":"owner""#),
            None,
        ),
        (
            format!(r#""app_metadata":"owner","app_metadata":{developer}"#),
            Some("developer"),
        ),
        (
            format!(r#""app_metadata":{developer},"user_metadata":{owner}"#),
            Some("developer"),
        ),
        (
            format!(r#""app_metadata":{{"role":["developer"]}},"app_metadata":{owner}"#),
            Some("owner"),
        ),
    ] {
        let (exp, sub) = (now() + 3600, fresh_subject());
        let claims =
            format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"{sub}","exp":{exp},{words}}}"#);
        let token = known_key().token_with(HEADER, &claims);
        let record =
            json!({"action": "record_event", "event_type": "slow_query", "event_data": {}});
        let record = Request::post(PERFORMANCE, &record.to_string()).bearer(&token);
        let status = if expected.is_some() { 201 } else { 403 };
        let answer = app.send(record).await;
        assert_eq!(answer.status, status, "{words}: {}", answer.text);

        let seen = r#"
            with gone as (delete from seen returning *)
            select role, claims::jsonb #>> '{app_metadata,role}', claims::jsonb ->> 'sub',
              (select count(*) from regexp_matches(claims, '"app_metadata"', 'g'))
            from gone"#;
        // Each claim once: nobody after Rust has anything to choose.
        let told = expected.map(|role| format!("{role}|{role}|{sub}|1\n"));
        let seen = database.psql(SUPERUSER, seen);
        assert_eq!(seen, Ok(told.unwrap_or_default()), "{words}");

        let resolve =
            json!({"action": "resolve_event", "event_id": "00000000-0000-0000-0000-000000000000"});
        let resolve = Request::post(PERFORMANCE, &resolve.to_string()).bearer(&token);
        let status = if expected == Some("owner") { 404 } else { 403 };
        assert_eq!(app.send(resolve).await.status, status, "{words}");
    }
}

/// The subject is whoever the token says, as it says it; a document that PostgreSQL cannot read admits nobody.
#[tokio::test]
async fn claims_that_postgresql_cannot_read_admit_nobody() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let token = known_key().token(None, &caller("admin", &json!({ "name": "a\u{0}b" })));
    let answer = app.send(request().bearer(&token)).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (403, "forbidden"),
        "{}",
        answer.text
    );
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let claims = admin()
        .to_string()
        .replacen('{', &format!("{{\"deep\":{deep},"), 1);
    let token = known_key().token_with(HEADER, &claims);
    assert_refused(&app, &token, "it is malformed", "nested too deep").await;
}

//! `monitoring.redact`: no literal survives, and what is no literal stays readable.

use tokio_postgres::Client;

use crate::support::random::Random;

use crate::support::postgres::plain;

async fn redact(client: &Client, text: &str) -> String {
    let row = client
        .query_one("select monitoring.redact($1)", &[&text])
        .await;
    row.unwrap_or_else(|error| panic!("{text}: {error:?}"))
        .get(0)
}

#[tokio::test]
async fn literals_of_every_kind_become_question_marks() {
    let database = plain().database();
    let client = database.superuser().await;
    for (text, expected) in [
        (
            "select * from guests where name = 'O''Brien' and age > 42",
            "select * from guests where name = ? and age > ?",
        ),
        (
            "select \"it's\" from \"Guest List\"",
            "select \"it's\" from \"Guest List\"",
        ),
        ("select $$secret$$, b from t", "select ?, b from t"),
        (
            "select $1, a$1, t1.c2 from t1",
            "select $1, a$1, t1.c2 from t1",
        ),
        ("select 1e5, 0x1f, 1_000 from t", "select ?, ?, ? from t"),
        (
            "select x'1f', B'101', N'x', U&'\\0041' from t",
            "select ?, ?, ?, ? from t",
        ),
        ("select 'a'\n'b' from t", "select ? ? from t"),
        (
            "select a /* secret */ from t -- secret",
            "select a ? from t ?",
        ),
        (
            "select a-b, a/b from t where e ? 'k'",
            "select a-b, a/b from t where e ? ?",
        ),
        ("select password from users", "select password from users"),
        (
            "select name from gäste where name = 'Zoë'",
            "select name from gäste where name = ?",
        ),
        ("select 'cut in the midd", "select ?"),
        ("select \"cut in the midd", "select ?"),
        ("select a /* cut in the midd", "select a ?"),
        ("", ""),
    ] {
        assert_eq!(redact(&client, text).await, expected, "{text}");
    }
}

/// Where text is ambiguous it shows less, not more.
#[tokio::test]
async fn what_follows_an_ambiguity_goes() {
    let database = plain().database();
    let client = database.superuser().await;
    for text in [
        "select 'it\\' secret' from t",
        "select E'it\\'s secret' from t",
        "select $tag$secret$tag$, 'secret'",
        "select /* a /* nested */ secret */ 1",
        "select $tag secret",
        "select c from q where a$$1 = 1 and c = $$top secret$$",
        "select $$ x $\u{1}$ my secret $$",
        "/* a *\u{1}/ my secret */ select 1",
        "select 1$$my secret token$$",
    ] {
        let shown = redact(&client, text).await;
        assert!(!shown.contains("secret"), "{text}: {shown}");
    }
}

#[tokio::test]
async fn statements_that_carry_secrets_are_not_shown() {
    let database = plain().database();
    let client = database.superuser().await;
    for text in [
        "ALTER ROLE bob PASSWORD 'x'",
        "alter /* c */ user bob encrypted password 'x'",
        "select 1; CREATE USER bob PASSWORD 'x'",
        "create subscription s connection 'host=h password=x' publication p",
        "create user mapping for bob server s options (password 'x')",
        "alter user mapping for bob server s options (set password 'x')",
        "create server s foreign data wrapper f options (password 'x')",
        "set app.token to abc",
        "set local \"app\".\"token\" = abc",
        "alter database d set app.token to abc",
        "alter system set primary_conninfo = 'x'",
        "set \u{e9}.k to s3cret",
        "set U&\"\\0061pp\".tok to s3cret",
        "set\"app\".token = abc",
        "select 1;set\"app\".\"token\" to abc",
        "set session\"app\".token = abc",
        "set\"app.token\"to abc",
        "set local \"my.token\" = abc",
        "alter database d set\"app.token\"=abc",
        "alter function f() set app.token=abc",
        "set n/**/.token to abc",
        "set x /* c */ . token to abc",
        "set my\u{3000}app.token to abc",
        "set/**/local\"app\" . token = abc",
        "set \"my app\".token = abc",
        "set U&\"app\\002etoken\" to abc",
        "set local u&\"app\" uescape '!' . token to abc",
        "alter database \"my set\" set app.token to abc",
        "alter database \"my \"\"set\" set\"app.token\"=abc",
    ] {
        assert_eq!(redact(&client, text).await, "[REDACTED]", "{text}");
    }
}

/// What a column is set to may be another's column, also without a blank around it.
#[tokio::test]
async fn assignments_of_columns_are_shown() {
    let database = plain().database();
    let client = database.superuser().await;
    for text in [
        "insert into t (id) values ($1) on conflict (id) do update set \"name\"=excluded.\"name\"",
        "update t set a=s.b from s where s.id = t.id",
        "update t set x=f(a.b), y = s.c from s",
        // A name may end with the word, or be it.
        "select \"set\".\"id\" from \"set\" where \"set\".\"place\" = $1",
        "select \"guest set\".id, \"a set b\".c from \"guest set\" join \"a set b\" using (id)",
    ] {
        assert_eq!(redact(&client, text).await, text);
    }
}

#[tokio::test]
async fn a_marker_never_survives_a_cut_at_any_character() {
    let database = plain().database();
    let client = database.superuser().await;
    let statements = [
        "select 'MARKER' from t where a = 5 and b = 'MARKER'",
        "select E'x\\'MARKER' || 'MARKER' from t",
        "select U&'MARKER' uescape '!', N'MARKER' from t",
        "select $$MARKER$$ || $a$MARKER$a$ from t",
        "select 1 -- MARKER\n, 2 /* MARKER /* MARKER */ MARKER */ from t",
        "select 'MARKER\\' , 'MARKER' , 'MARKER\\\\' from t",
        "select 'a''MARKER''b' , '''MARKER' from \"x'y\" where c = 'MARKER'",
    ];
    let mut cuts = 0;
    for statement in statements {
        for end in 0..=statement.len() {
            let shown = redact(&client, &statement[..end]).await;
            assert!(!shown.contains("MARK"), "{}: {shown}", &statement[..end]);
            cuts += 1;
        }
    }
    assert!(cuts > 300);
}

#[tokio::test]
async fn a_preview_has_at_most_200_characters() {
    let database = plain().database();
    let client = database.superuser().await;
    let long = format!("select {} from t", vec!["ä_column"; 500].join(", "));
    assert_eq!(redact(&client, &long).await.chars().count(), 200);
}

/// Where a secret can stand: every form of literal and comment, and what makes the lexing of each hard.
const LITERALS: [&str; 34] = [
    "'Xsecret'",
    "''",
    "'''Xsecret'",
    "'Xsecret'''",
    "'a''Xsecret''b'",
    "'\\Xsecret'",
    "'Xsecret\\\\'",
    "'it\\'s Xsecret'",
    "e'it\\'s Xsecret'",
    "E'\\\\\\'Xsecret'",
    "E'\\'' || 'Xsecret'",
    "U&'\\0041Xsecret' uescape '!'",
    "u&'Xsecret'",
    "N'Xsecret'",
    "B'1Xsecret'",
    "x'1fXsecret'",
    "'a'\n'Xsecret'",
    "'\u{e9}\u{4e2d}\u{1f600} Xsecret'",
    "'a\u{1}Xsecret'",
    "$$Xsecret$$",
    "$$a$Xsecret$$",
    "$$ ' Xsecret $$",
    "$$ $x$ Xsecret $$",
    "$t$Xsecret$t$",
    "$t$ $$ Xsecret $$ $t$",
    "$\u{e9}$ ' Xsecret $\u{e9}$",
    "-- Xsecret\n",
    "--' Xsecret\n",
    "--$$ Xsecret\r\n",
    "/* Xsecret */",
    "/* ' Xsecret */",
    "/* -- Xsecret */",
    "/* /* Xsecret */ Xsecret */",
    "/*/ Xsecret */",
];

/// Literals too, in which nothing can stand; between the others they make the lexer start anew.
const NUMBERS: [&str; 3] = ["42", "1.5e5", "0x1F"];

/// What is no literal and must stay as it is, although it looks like the beginning of one.
const DECEPTIVE: [&str; 13] = [
    "a$$1",
    "a$$b",
    "a$1",
    "$1",
    "\"it's\"",
    "\"a\"\"b\"",
    "\"$$\"",
    "\"--\"",
    "-",
    "/",
    "e",
    "U&\"x\"",
    "n\u{e9}e",
];

/// What is no literal and must stay as it is.
const PLAIN: [&str; 16] = [
    "select",
    "from",
    "guests",
    "guest_list",
    "t1",
    "a.b",
    "(",
    ")",
    ",",
    "::text",
    "->>",
    "<>",
    "||",
    "*",
    "[",
    "]",
];

/// How many cut statements are tried: 100,000, or as many as `PGVIGIL_REDACTION_CASES` says.
fn cases() -> usize {
    std::env::var_os("PGVIGIL_REDACTION_CASES").map_or(100_000, |asked| {
        let asked = asked.to_string_lossy();
        asked.parse().expect("reading a number of cases")
    })
}

#[tokio::test]
async fn no_secret_survives_wherever_a_statement_is_cut() {
    let database = plain().database();
    let client = database.superuser().await;
    let mut random = Random::new();
    let mut tried = 0;
    while tried < cases() {
        let mut statements = Vec::new();
        while statements.len() < 10_000 {
            let mut statement = String::new();
            for _ in 0..random.below(8) + 1 {
                let tokens: &[&str] = match random.below(4) {
                    0 => &LITERALS,
                    1 => &NUMBERS,
                    2 => &DECEPTIVE,
                    _ => &PLAIN,
                };
                statement.push_str(random.one_of(tokens));
                statement.push_str(random.one_of(&[" ", "\n", "\t", "  ", " , "]));
            }
            let ends = statement.char_indices().map(|(end, _)| end);
            let ends = ends.chain([statement.len()]);
            statements.extend(ends.map(|end| statement[..end].to_owned()));
        }
        tried += statements.len();
        let leak = "select t, shown from unnest($1::text[]) t, lateral (select monitoring.redact(t) as shown offset 0) r \
                    where shown like '%Xs%' limit 1";
        let leak = client
            .query_opt(leak, &[&statements])
            .await
            .expect("redacting");
        if let Some(row) = leak {
            let (text, shown): (String, String) = (row.get(0), row.get(1));
            panic!(
                "PGVIGIL_SEED={}: {text:?} is shown as {shown:?}",
                random.seed()
            );
        }
    }
}

/// How `pg_stat_statements` writes a list of constants from 18 on.
#[tokio::test]
async fn a_list_that_was_shortened_keeps_its_shape() {
    let database = plain().database();
    let client = database.superuser().await;
    let listed = "select * from guests where id in ($1 /*, ... */) and name <> 'Anna /*, ... */' /* /*, ... */ secret */";
    assert_eq!(
        redact(&client, listed).await,
        "select * from guests where id in ($1, ...) and name <> ? ?"
    );
    // What looks like one does not part the words of a secret.
    for secret in [
        "set /*, ... */ app.token to abc",
        "set local /*, ... */ app.token = abc",
        "set app /*, ... */.token to abc",
        " /*, ... */alter system set x to y",
        "alter /*, ... */ role anna password x",
    ] {
        assert_eq!(redact(&client, secret).await, "[REDACTED]", "{secret}");
    }
}

#[tokio::test]
async fn what_holds_no_literal_keeps_its_shape() {
    let database = plain().database();
    let client = database.superuser().await;
    let mut random = Random::new();
    for _ in 0..2_000 {
        let tokens: Vec<&str> = (0..random.below(12) + 1)
            .map(|_| match random.below(2) {
                0 => random.one_of(&DECEPTIVE),
                _ => random.one_of(&PLAIN),
            })
            .collect();
        let expected: String = tokens.join(" ").chars().take(200).collect();
        let shown = redact(&client, &tokens.join("\n ")).await;
        assert_eq!(shown, expected, "PGVIGIL_SEED={}", random.seed());
    }
}

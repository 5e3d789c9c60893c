//! Keys come and go while an instance is warm: fetched again for a token that none fits, and not more often than once a minute.

use std::time::Duration;

use super::{admin, app_with_keys, ask, assert_accepted, assert_refused, key_set};
use crate::support::app::TestApp;
use crate::support::postgres::plain;
use crate::support::secrets::{Turnstile, store};
use crate::support::templates::MONITOR;
use crate::support::token::SigningKey;
use crate::support::wait::let_pass;

const NO_KEY: &str = "no known key has signed it";
const A_MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_new_key_counts_beside_the_old_and_a_withdrawn_one_no_more() {
    let database = plain().database();
    let (old, new) = (SigningKey::es256(), SigningKey::rs256());
    let set = store().create(&key_set(&[("old", &old)]));
    let app = app_with_keys(&database, &set).await;
    let (by_old, by_new) = (
        old.token(Some("old"), &admin()),
        new.token(Some("new"), &admin()),
    );
    assert_accepted(&app, &by_old, "the first key").await;
    assert_refused(&app, &by_new, NO_KEY, "not there yet").await;

    store().replace(&set.id, &key_set(&[("old", &old), ("new", &new)]));
    let_pass(A_MINUTE).await;
    assert_accepted(&app, &by_new, "its kid was unknown, so the set is fetched").await;
    assert_accepted(&app, &by_old, "both count while both are there").await;

    store().replace(&set.id, &key_set(&[("new", &new)]));
    assert_accepted(&app, &by_old, "nobody has asked yet").await;
    let_pass(A_MINUTE).await;
    let stranger = SigningKey::es256().token(Some("unknown"), &admin());
    assert_refused(&app, &stranger, NO_KEY, "it has the set fetched").await;
    assert_refused(&app, &by_old, NO_KEY, "withdrawn").await;
    assert_accepted(&app, &by_new, "the key that is left").await;
}

/// With nobody using an unknown key either, a withdrawn one is believed for ten minutes at most.
#[tokio::test]
async fn a_withdrawn_key_is_forgotten_without_an_unknown_one() {
    let database = plain().database();
    let (old, new) = (SigningKey::ed25519(), SigningKey::ed25519());
    let set = store().create(&key_set(&[("old", &old)]));
    let app = app_with_keys(&database, &set).await;
    let by_old = old.token(Some("old"), &admin());
    assert_accepted(&app, &by_old, "there").await;
    store().replace(&set.id, &key_set(&[("new", &new)]));
    let_pass(10 * A_MINUTE).await;
    assert_refused(&app, &by_old, NO_KEY, "withdrawn").await;
}

#[tokio::test]
async fn several_hs256_secrets_count_at_once() {
    let database = plain().database();
    let (one, two) = (
        SigningKey::hs256("the first secret, long enough for HS256"),
        SigningKey::hs256("the second secret, long enough for HS256"),
    );
    let set = store().create(&key_set(&[("one", &one), ("two", &two)]));
    let app = app_with_keys(&database, &set).await;
    for (key, id) in [(&one, "one"), (&two, "two")] {
        assert_accepted(&app, &key.token(Some(id), &admin()), id).await;
        assert_accepted(&app, &key.token(None, &admin()), "no kid").await;
    }
}

/// Else anybody could have the function ask the store as often as they can send tokens.
#[tokio::test]
async fn a_flood_of_unknown_kids_is_one_fetch_a_minute() {
    let database = plain().database();
    let gate = Turnstile::new();
    let key = SigningKey::es256();
    let set = store().create(&key_set(&[("known", &key)]));
    let login = store().create(&database.credentials(MONITOR));
    let variables = [("AUTH_SECRET_ID", set.id.as_str())];
    let app = TestApp::with_store(&database, login, &variables, gate.port).await;
    let stranger = SigningKey::es256();
    let flood = async |size: usize| {
        for n in 0..size {
            let token = stranger.token(Some(&format!("unknown {n}")), &admin());
            assert_refused(&app, &token, NO_KEY, "unknown").await;
            let token = stranger.token(Some("known"), &admin());
            assert_refused(&app, &token, NO_KEY, "forged").await;
        }
    };
    assert_eq!(
        gate.fetches_of(&set),
        0,
        "nothing is fetched before a token comes"
    );
    flood(100).await;
    assert_eq!(gate.fetches_of(&set), 1, "the first fetch is this minute's");
    for minute in 1..=3 {
        // A flood itself takes a while, all the more on a busy machine.
        let_pass(A_MINUTE).await;
        flood(10).await;
        assert_eq!(gate.fetches_of(&set), minute + 1);
        let_pass(A_MINUTE * 3 / 4).await;
        flood(10).await;
        assert_eq!(gate.fetches_of(&set), minute + 1, "not yet a minute");
    }
    let before = gate.fetches_of(&set);
    let_pass(5 * A_MINUTE).await;
    for _ in 0..10 {
        assert_accepted(&app, &key.token(Some("known"), &admin()), "known").await;
    }
    assert_eq!(gate.fetches_of(&set), before, "a key that fits asks nobody");
}

#[tokio::test]
async fn without_the_store_the_last_keys_count_on() {
    let database = plain().database();
    let gate = Turnstile::new();
    let key = SigningKey::es256();
    let set = store().create(&key_set(&[("known", &key)]));
    let login = store().create(&database.credentials(MONITOR));
    let variables = [("AUTH_SECRET_ID", set.id.as_str())];
    let app = TestApp::with_store(&database, login, &variables, gate.port).await;
    assert_accepted(&app, &key.token(Some("known"), &admin()), "fetched").await;
    gate.set_open(false);
    let_pass(10 * A_MINUTE).await;
    let stranger = SigningKey::es256().token(Some("unknown"), &admin());
    assert_refused(&app, &stranger, NO_KEY, "a stranger").await;
    assert_accepted(&app, &key.token(Some("known"), &admin()), "as last fetched").await;
    gate.set_open(true);
}

#[tokio::test]
async fn without_any_keys_nobody_is_let_in_and_the_cause_is_not_the_callers() {
    let database = plain().database();
    let gone = store().create_text("a secret that is about to be deleted");
    store().delete(&gone);
    let empty = store().create(&serde_json::json!({ "keys": [] }));
    for secret in [gone, empty] {
        let app = app_with_keys(&database, &secret).await;
        let answer = ask(&app, &super::known_key().token(None, &admin())).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (503, "secret_unavailable")
        );
        assert_eq!(answer.headers["retry-after"], "5");
        assert!(!answer.text.contains(&secret.id), "{}", answer.text);
    }
}

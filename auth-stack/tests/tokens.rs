//! Token services as configuration composes them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{Clock, Ctx, Device, EndReason, Login};
use auth_stack::{Builder, Stack};
use auth_testkit::{ManualClock, MemoryStore};
use auth_token::{Bearing, Checked, Granted, LoginAsk, RenewAsk, TokenService, Tokens};
use common::{all, builder};
use tempfile::TempDir;

fn with(folder: &TempDir, text: &str) -> Builder {
    let store = Arc::new(MemoryStore::named("app"));
    builder(&[("app", all(&store))], text).data(folder.path()).with_tokens()
}

async fn refusal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    with(&folder, text).build().await.unwrap_err().to_string()
}

async fn log_in(service: &TokenService) -> Tokens {
    let ask = LoginAsk {
        login: "calvin",
        password: b"hobbes".to_vec(),
        scope: None,
        client: None,
        device: Device::default(),
        remember: true,
    };
    match service.login(&Ctx::new(), ask).await.unwrap() {
        Granted::Tokens(tokens) => *tokens,
        other => panic!("{other:?}"),
    }
}

fn service(stack: &Stack) -> &Arc<TokenService> {
    stack.tokens("default").unwrap()
}

#[tokio::test]
async fn what_can_not_be_is_refused_by_its_place() {
    const SECOND: &str = "[realm.default]\npassword = ['app']\n[realm.other]\npassword = ['app']\n";
    for (text, told) in [
        ("[token]\nstore = 'memcached://127.0.0.1:11211'", "memcached forgets when it likes"),
        ("[token]\nstore = 'mongodb://u:hush@h'", "is no store of sessions"),
        ("[token]\nstore = 'sqlite:/nowhere/at/all/tokens.db'", "token.store"),
        ("[token]\nstore = 'rediss://h'\ntls = { mode = 'off' }", "everything is checked"),
        ("[token]\nstore = 'rediss://h'\ntls = { ca = '/nowhere.pem' }", "can't read /nowhere.pem"),
        ("[token]\nfromat = 'jwt'", "`format`"),
        ("[token]\nformat = 'jwe'", "did you mean `jwt`"),
        ("[token]\nformat = 'fsa'", "token.fsa.secret"),
        ("[token]\nformat = 'fsa'\nprofile = 'twopi'", "this profile is of JWTs"),
        (
            "[token]\nformat = 'fsa'\nfsa = { secret = 'a-secret-of-some-length', algorithm = 'blake2' }",
            "blake2",
        ),
        ("[token]\nformat = 'fsa'\nfsa = { secret = 'a-secret-of-some-length', length = 4 }", "8"),
        ("[token]\nkeys = { algorithm = 'EdDAS' }", "did you mean `EdDSA`"),
        ("[token]\nkeys = { key = '{\"kty\":\"oct\",\"k\":\"AAAA\"}' }", "token.keys.key"),
        ("[token]\naccess_ttl = '0s'", "access_ttl"),
        ("[token]\nscopes = ['a b']", "scopes"),
        ("[token]\nrefresh = { grace = '10m' }", "grace"),
        ("[secrets]\nrefresh_key = 'short'", "32 bytes"),
        (&format!("{SECOND}[token]\naudience = 'api'"), "each other's tokens"),
        (&format!("{SECOND}[token]\nprofile = 'ampho'"), "it is for one realm"),
        (
            "[realm.'eu.staff']\npassword = ['app']\n[realm.eu-staff]\npassword = ['app']\n[server]\nrealm = 'eu-staff'\n\
             [token]\nformat = 'fsa'\nfsa = { secret = 'the-quick-brown-fox-secret-2099!' }",
            "have one name",
        ),
    ] {
        let refused = refusal(text).await;
        assert!(refused.contains(told), "{text}: {refused}");
        assert!(!refused.contains("hush"), "{refused}");
    }
}

#[tokio::test]
async fn nobody_makes_keys_who_did_not_ask_for_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(MemoryStore::named("app"));
    let plain = || builder(&[("app", all(&store))], "").data(folder.path());
    assert!(plain().build().await.unwrap().tokens("default").is_none());
    assert!(plain().with_tokens_if_kept().build().await.unwrap().tokens("default").is_none());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(with(&folder, "[token]\nenabled = false").build().await.unwrap().tokens("default").is_none());
    assert!(plain().with_tokens().build().await.unwrap().tokens("default").is_some());
    assert!(plain().with_tokens_if_kept().build().await.unwrap().tokens("default").is_some());
}

#[tokio::test]
async fn realms_do_not_take_each_others_tokens() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["", "format = 'fsa'\nfsa = { secret = 'the-quick-brown-fox-secret-2099!' }\n"] {
        let text = format!(
            "[realm.one]\npassword = ['app']\n[realm.two]\npassword = ['app']\n[server]\nrealm = 'one'\n[token]\n{format}"
        );
        let stack = with(&folder, &text).build().await.unwrap();
        let (one, two) = (stack.tokens("one").unwrap(), stack.tokens("two").unwrap());
        let login = Login::parse(one.realm().id(), "calvin").unwrap();
        let (token, _) = one.issue(&Ctx::new(), &login, None, None).await.unwrap().unwrap();
        let check = async |service: &TokenService| service.check(&Ctx::new(), &token).await.unwrap();
        assert!(matches!(check(one).await, Checked::Valid(_)));
        assert!(matches!(check(two).await, Checked::Invalid(_)), "{format}");
        assert!(matches!(check(one).await, Checked::Valid(_)));
        let session = log_in_if_sessions(one, format).await;
        if let Some(tokens) = session {
            let ask = RenewAsk { token: &tokens.refresh_token, scope: None, client: None };
            let refused = two.renew(&Ctx::new(), &ask).await.unwrap();
            assert!(matches!(refused, Granted::Refused(_)));
            assert!(!two.logout(&Ctx::new(), &Bearing::Refresh(&tokens.refresh_token)).await.unwrap().known);
            assert!(matches!(one.renew(&Ctx::new(), &ask).await.unwrap(), Granted::Tokens(_)));
        }
    }
}

async fn log_in_if_sessions(service: &TokenService, format: &str) -> Option<Tokens> {
    if format.is_empty() { Some(log_in(service).await) } else { None }
}

#[tokio::test]
async fn the_environment_of_flask_ampho_is_read_and_its_key_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let key = r#"{"k": "PkJ4gc1vCESz212pozSfjxpU66osYOIpi3X14OoHv7s", "kty": "oct"}"#;
    let stack = with(&folder, "[token]\nprofile = 'ampho'\njitter = 0\n")
        .var("AMPHO_SECURITY_KEY", key)
        .var("AMPHO_SECURITY_REST_PREFIX", "/api/ampho")
        .var("AMPHO_SECURITY_TOKEN_TTL", "900")
        .build()
        .await
        .unwrap();
    assert_eq!(stack.config().token.http.prefix, "/api/ampho");
    let tokens = log_in(service(&stack)).await;
    assert_eq!(tokens.expires_at.duration_since(tokens.issued_at).unwrap(), Duration::from_secs(900));
    for shown in [stack.show(), format!("{:?}", stack.config()), format!("{stack:?}")] {
        assert!(!shown.contains("PkJ4gc1v"), "{shown}");
    }
    assert_eq!(service(&stack).jwks(), r#"{"keys":[]}"#);
}

#[tokio::test]
async fn a_reload_keeps_sessions_and_what_was_checked() {
    let folder = tempfile::tempdir().unwrap();
    let text = |rest: &str| format!("[token]\nstore = 'memory'\n{rest}");
    let old = Arc::new(with(&folder, &text("")).build().await.unwrap());
    let tokens = log_in(service(&old)).await;
    let ctx = Ctx::new();
    assert!(matches!(service(&old).check(&ctx, &tokens.access_token).await, Ok(Checked::Valid(_))));
    let same = Arc::new(with(&folder, &text("")).after(&old).build().await.unwrap());
    assert!(service(&same).peek(&ctx, &tokens.access_token).is_some(), "from memory");
    let changed = with(&folder, &text("access_ttl = '5m'\n")).after(&same).build().await.unwrap();
    assert!(matches!(service(&changed).check(&ctx, &tokens.access_token).await, Ok(Checked::Valid(_))));
    let ask = RenewAsk { token: &tokens.refresh_token, scope: None, client: None };
    assert!(matches!(service(&changed).renew(&ctx, &ask).await, Ok(Granted::Tokens(_))));
}

#[tokio::test]
async fn a_scope_that_is_no_longer_configured_is_no_longer_granted() {
    let folder = tempfile::tempdir().unwrap();
    let text = |scopes: &str| format!("[token]\nstore = 'memory'\nscopes = [{scopes}]\n");
    let old = Arc::new(with(&folder, &text("'read', 'admin'")).build().await.unwrap());
    let tokens = log_in(service(&old)).await;
    assert_eq!(tokens.scope, "read admin");
    let new = with(&folder, &text("'read', 'write'")).after(&old).build().await.unwrap();
    let ask = RenewAsk { token: &tokens.refresh_token, scope: None, client: None };
    let Granted::Tokens(next) = service(&new).renew(&Ctx::new(), &ask).await.unwrap() else { panic!() };
    assert_eq!(next.scope, "read");
}

#[tokio::test]
async fn who_was_revoked_gets_good_tokens_of_flask_simple_auth_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[token]\nformat = 'fsa'\nfsa = { secret = 'the-quick-brown-fox-secret-2099!' }\n";
    let clock = ManualClock::new();
    clock.set_wall(SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_500));
    let stack = with(&folder, text).clock(Arc::clone(&clock) as Arc<dyn Clock>).build().await.unwrap();
    let (service, ctx) = (service(&stack), Ctx::new());
    let login = Login::parse(service.realm().id(), "calvin").unwrap();
    let issue = async || service.issue(&ctx, &login, None, None).await.unwrap().unwrap().0;
    let is_good = async |token: &str| matches!(service.check(&ctx, token).await.unwrap(), Checked::Valid(_));
    let before = issue().await;
    assert!(is_good(&before).await);
    service.end_person(&ctx, &login, EndReason::PasswordChanged).await.unwrap();
    assert!(!is_good(&before).await);
    // Its limit is cut to whole seconds: one that was issued within the same second is refused.
    clock.advance(Duration::from_secs(1));
    assert!(is_good(&issue().await).await);
    assert!(!is_good(&before).await);
}

#[tokio::test]
async fn what_is_forged_is_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let stack = with(&folder, "").build().await.unwrap();
    let tokens = log_in(service(&stack)).await;
    let entries = || {
        let caches = stack.caches();
        caches
            .iter()
            .filter(|(_, report)| report.kind == "tokens")
            .map(|(_, report)| report.stats.entries)
            .sum::<u64>()
    };
    let (head, _) = tokens.access_token.rsplit_once('.').unwrap();
    for n in 0..50 {
        let forged = format!("{head}.{}{n:02}{}", "A".repeat(80), "AAAA");
        assert!(matches!(service(&stack).check(&Ctx::new(), &forged).await, Ok(Checked::Invalid(_))));
    }
    assert_eq!(entries(), 0);
    assert!(matches!(service(&stack).check(&Ctx::new(), &tokens.access_token).await, Ok(Checked::Valid(_))));
    assert_eq!(entries(), 1);
    assert!(service(&stack).peek(&Ctx::new(), &tokens.access_token).is_some());
}

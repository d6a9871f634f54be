//! Logins: what a session is begun with, and what happens while a password is looked at.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use auth_core::{
    Account, AccountState, Clock, Ctx, Device, End, EndReason, Ends, ErrorKind, Families as _, Freshness,
    Login, Lookup, Password, PasswordSource, Result, SourceInfo, StoredHash, Verdict,
};
use auth_testkit::FamilyFault as Fault;
use auth_testkit::{ByTable, ManualClock, MemoryStore};
use auth_token::{LoginAsk, RenewAsk, TokenSettings};

use crate::rig::{HOUR, MS, Make, Others, Rig, SECOND, ask, claims, class, tokens};

/// Has all sessions of a login end each time just after its password was found to be right.
#[derive(Debug)]
struct Meddled {
    inner: ByTable<MemoryStore>,
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    others: Arc<Others>,
    // What comes next: the new password, and how long after it the login goes on.
    next: Mutex<Vec<(&'static str, Duration)>>,
    freshness: Mutex<Vec<Freshness>>,
    disables: AtomicBool,
}

#[async_trait]
impl PasswordSource for Meddled {
    fn source(&self) -> &SourceInfo {
        self.inner.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        self.freshness.lock().unwrap().push(ctx.freshness());
        let verdict = self.inner.verify(ctx, login, password).await?;
        if self.disables.load(Ordering::SeqCst) {
            let disabled = AccountState { disabled: true, ..AccountState::default() };
            self.store.set_state(login.as_str(), disabled);
        }
        let next = self.next.lock().unwrap().pop();
        if let Some((password, wait)) = next {
            self.store
                .set_hash(login.as_str(), Some(StoredHash::new(password.to_owned(), Some("plaintext"))));
            let at =
                u64::try_from(self.clock.wall().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
            let end = End { at, reason: EndReason::PasswordChanged, until: at + 3_600_000 };
            self.others.end(ctx, "default", &Ends::Person(login.as_str()), &end).await?;
            self.clock.advance(wait);
        }
        Ok(verdict)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.inner.account(ctx, login).await
    }
}

fn meddled(next: &[(&'static str, Duration)]) -> (Rig, Arc<Meddled>) {
    let make = Make::new();
    let people = Arc::new(Meddled {
        inner: ByTable::new(Arc::clone(&make.people), Arc::clone(&make.clock) as Arc<dyn Clock>),
        store: Arc::clone(&make.people),
        clock: Arc::clone(&make.clock),
        others: Arc::clone(&make.others),
        next: Mutex::new(next.iter().rev().copied().collect()),
        freshness: Mutex::default(),
        disables: AtomicBool::new(false),
    });
    let source = Arc::clone(&people) as Arc<dyn PasswordSource>;
    (Make { source: Some(source), ..make }.rig(), people)
}

#[tokio::test]
async fn a_login_with_a_password_that_is_changed_meanwhile_begins_no_session() {
    // Also where all of it falls into one millisecond.
    for wait in [Duration::ZERO, MS, Duration::from_secs(1)] {
        let (rig, people) = meddled(&[("susie", wait)]);
        assert_eq!(class(rig.try_log_in().await), "bad_password");
        assert_eq!(*people.freshness.lock().unwrap(), [Freshness::Any, Freshness::Fresh], "not from memory");
        assert!(rig.live().await.is_empty());
        assert_eq!(rig.heard.take(), [""; 0], "what was never given was never begun");
    }
}

#[tokio::test]
async fn who_is_logged_out_everywhere_during_a_login_is_logged_in_after_it() {
    let (rig, people) = meddled(&[("hobbes", MS)]);
    let tokens = rig.log_in().await;
    assert_eq!(people.freshness.lock().unwrap().len(), 2);
    assert_eq!(rig.heard.take(), ["login calvin"]);
    assert_eq!(rig.checked(&tokens.access_token).await, "valid");
    assert_eq!(rig.live().await, [tokens.family]);
    assert_eq!(class(rig.renew(&tokens.refresh_token).await), "tokens");
}

#[tokio::test]
async fn a_login_whose_sessions_end_again_and_again_is_told_to_try_again() {
    // The same millisecond counts as before: nobody knows which of the two was first.
    for twice in [&[("hobbes", Duration::ZERO)][..], &[("hobbes", MS), ("hobbes", MS), ("hobbes", MS)]] {
        let (rig, people) = meddled(twice);
        let error = rig.try_log_in().await.unwrap_err();
        assert_eq!((error.kind(), error.wait()), (ErrorKind::Overloaded, Some(Duration::from_secs(1))));
        assert_eq!(people.freshness.lock().unwrap().len(), 2, "once more, and not for ever");
        assert!(rig.live().await.is_empty());
    }
}

#[tokio::test]
async fn a_login_of_which_nobody_knows_whether_its_sessions_have_ended_gives_nothing() {
    let rig = Rig::new();
    for fault in [Fault::Before("is_revoked"), Fault::After("is_revoked")] {
        rig.families.set(fault);
        assert_eq!(class(rig.try_log_in().await), "unavailable");
    }
    let (rig, _) = meddled(&[("hobbes", MS)]);
    rig.families.set(Fault::Before("end"));
    assert_eq!(class(rig.try_log_in().await), "unavailable");
    assert_eq!(rig.heard.take(), [""; 0]);
}

#[tokio::test]
async fn who_may_no_longer_log_in_when_the_password_was_looked_at_gets_nothing() {
    let (rig, people) = meddled(&[]);
    people.disables.store(true, Ordering::SeqCst);
    assert_eq!(class(rig.try_log_in().await), "disabled");
    assert!(rig.live().await.is_empty());
}

#[tokio::test]
async fn what_a_login_asks_for_too_much_is_told_before_the_password_is_looked_at() {
    let rig = Make::new().set(|settings| settings.scopes = vec!["read".to_owned(), "write".to_owned()]).rig();
    for (scope, granted) in
        [("read root", "scope"), ("", "bad_password"), ("  write   read ", "bad_password")]
    {
        let wrong = LoginAsk { password: b"wrong".to_vec(), scope: Some(scope), ..ask() };
        assert_eq!(class(rig.service.login(&rig.ctx, wrong).await), granted, "{scope:?}");
    }
    for (scope, granted) in [(None, "read write"), (Some(" write  write "), "write"), (Some(""), "")] {
        let given = tokens(rig.service.login(&rig.ctx, LoginAsk { scope, ..ask() }).await);
        assert_eq!(given.scope, granted);
    }
}

#[tokio::test]
async fn a_client_has_a_name_of_255_printable_characters_at_most() {
    let rig = Rig::new();
    let (longest, longer) = ("c".repeat(255), "c".repeat(256));
    for (client, granted) in [
        ("", "invalid"),
        ("caf\u{e9}", "invalid"),
        ("a\n", "invalid"),
        ("a\u{7f}", "invalid"),
        (longer.as_str(), "invalid"),
        (longest.as_str(), "tokens"),
        (" ~", "tokens"),
    ] {
        // Before the password is looked at.
        let password = if granted == "tokens" { b"hobbes" } else { b"wrong!" };
        let asked = LoginAsk { client: Some(client), password: password.to_vec(), ..ask() };
        assert_eq!(class(rig.service.login(&rig.ctx, asked).await), granted, "{client:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_not_remembered_has_the_shorter_of_each_limit() {
    let hours = |hours: u32| HOUR * hours;
    for (idle, absolute, short, least) in [
        (hours(1), hours(24), hours(12), (hours(1), hours(12))),
        (hours(24), hours(24), hours(12), (hours(12), hours(12))),
        (hours(2), hours(6), hours(12), (hours(2), hours(6))),
    ] {
        let settings = TokenSettings { idle, absolute, short, ..TokenSettings::default() };
        let rig = Make { settings, ..Make::new() }.rig();
        for (remember, (idle, absolute)) in [(false, least), (true, (idle, absolute))] {
            let given = tokens(rig.service.login(&rig.ctx, LoginAsk { remember, ..ask() }).await);
            let now = rig.clock.wall();
            assert_eq!(given.refresh_expires_at.duration_since(now).unwrap(), idle);
            assert_eq!(given.session_expires_at.duration_since(now).unwrap(), absolute);
            let record = rig.record(given.family).await.unwrap();
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
            assert_eq!((record.created_at, record.rotated_at), (rig.millis(), rig.millis()));
            assert_eq!((record.idle, record.idle_end), (millis(idle), rig.millis() + millis(idle)));
            assert_eq!(record.absolute_end, rig.millis() + millis(absolute));
        }
    }
}

#[tokio::test]
async fn a_session_keeps_what_its_client_says_of_itself_as_far_as_it_fits() {
    let rig = Rig::new();
    let device = Device {
        name: Some(format!("a\nb{}", "\u{e9}".repeat(200))),
        address: Some([192, 0, 2, 9].into()),
        agent: Some("x".repeat(600)),
    };
    let given = LoginAsk { client: Some("app"), device, ..ask() };
    let given = tokens(rig.service.login(&rig.ctx, given).await);
    let record = rig.record(given.family).await.unwrap();
    // Not cut within a character.
    assert_eq!(record.device.name, Some(format!("a b{}", "\u{e9}".repeat(126))));
    assert_eq!(record.device.agent.map(|agent| agent.len()), Some(512));
    assert_eq!(record.device.address, Some([192, 0, 2, 9].into()));
    assert_eq!(record.client.as_deref(), Some("app"));
    assert_eq!(claims(&rig.state(&given.access_token).await)["client_id"], "app");
    let renew = RenewAsk { token: &given.refresh_token, scope: None, client: Some("app") };
    let renewed = tokens(rig.service.renew(&rig.ctx, &renew).await);
    assert_eq!(claims(&rig.state(&renewed.access_token).await)["client_id"], "app");
    let blank = Device { name: Some(" \t".to_owned()), agent: Some(String::new()), address: None };
    let given = tokens(rig.service.login(&rig.ctx, LoginAsk { device: blank, ..ask() }).await);
    assert_eq!(rig.record(given.family).await.unwrap().device, Device::default());
}

#[tokio::test]
async fn an_access_token_lives_for_a_second_at_least_and_comes_with_the_leeway() {
    let shortest = |settings: &mut TokenSettings| {
        (settings.access_ttl, settings.jitter, settings.leeway) = (SECOND, 0.5, SECOND * 7);
    };
    let rig = Make::new().set(shortest).rig();
    for _ in 0..20 {
        let given = rig.log_in().await;
        assert_eq!(given.expires_at.duration_since(given.issued_at).unwrap(), SECOND);
        assert_eq!((given.starts_at, given.leeway), (given.issued_at, SECOND * 7));
    }
}

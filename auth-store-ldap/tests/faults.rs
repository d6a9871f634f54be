//! What goes wrong with real servers, and how that looks: the right kinds of errors, soon, and the way back without a
//! restart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use auth_core::{Ctx, Error, ErrorKind, PasswordSource as _, Reject, Verdict};
use auth_store_ldap::LdapStore;
use auth_testkit::servers::{CertPair, Certs, Slapd, SlapdOptions, SlapdTls, skipped, stopwatch};
use auth_testkit::{Proxy, login, password};
use common::{open, opened, options, settings, world};

/// Short limits, so that what hangs is soon given up.
const SHORT: &str = "pool = { connect_timeout_ms = 300, timeout_ms = 400, wait_ms = 200, bind_connections = 2, service_connections = 1 }";

/// More than the limits come to, and less than any default of a system.
const SOON: Duration = Duration::from_secs(3);

static CERTS: LazyLock<(tempfile::TempDir, Arc<Certs>)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let certs = Arc::new(Certs::make(folder.path()));
    (folder, certs)
});

fn certs() -> Arc<Certs> {
    Arc::clone(&CERTS.1)
}

fn directory() -> Slapd {
    let slapd = Slapd::start(&options());
    slapd.add(&world());
    slapd
}

async fn ask(store: &LdapStore, secret: &str) -> auth_core::Result<Verdict> {
    store.verify(&Ctx::new(), &login("calvin"), &password(secret)).await
}

/// Logs in, and is told the truth.
async fn fine(store: &LdapStore) {
    assert!(matches!(ask(store, "hobbes").await, Ok(Verdict::Accepted(_))));
    assert!(matches!(ask(store, "wrong").await, Ok(Verdict::Rejected(Reject::BadPassword))));
}

/// Asks what can't be answered; that is said soon.
async fn fails(store: &LdapStore, kinds: &[ErrorKind]) -> Error {
    let began = stopwatch();
    let error = ask(store, "hobbes").await.expect_err("nobody can know");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(kinds.contains(&error.kind()), "{error:?}, not one of {kinds:?}");
    assert!(
        !format!("{error:?}").contains("hobbes") && !format!("{error:?}").contains("secret"),
        "{error:?}"
    );
    error
}

/// Asks until the truth is told again.
async fn recovers(store: &LdapStore) {
    let began = stopwatch();
    while let Err(error) = ask(store, "hobbes").await {
        assert!(began.elapsed() < Duration::from_secs(20), "no way back: {error:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fine(store).await;
}

#[tokio::test]
async fn a_killed_server_is_unavailable_until_it_is_back() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    let store = opened(&settings(&slapd.url(), SHORT)).await;
    fine(&store).await;
    slapd.kill();
    for _ in 0..3 {
        fails(&store, &[ErrorKind::Unavailable]).await;
    }
    slapd.restart();
    recovers(&store).await;
    // Restarted between two questions: the old connections are not used.
    slapd.restart();
    fine(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stopped_server_is_given_up_in_time_whatever_the_load() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    let store = Arc::new(opened(&settings(&slapd.url(), SHORT)).await);
    fine(&store).await;
    slapd.stop_signal();
    let one = async |_| {
        fails(&store, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
    };
    futures_util::future::join_all((0..20).map(one)).await;
    slapd.cont_signal();
    recovers(&store).await;
}

#[tokio::test]
async fn a_lost_answer_and_a_slow_network_are_given_up_in_time() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    let proxy = Proxy::start(([127, 0, 0, 1], slapd.port()).into());
    let url = format!("ldap://{}", proxy.address());
    let store = opened(&settings(&url, SHORT)).await;
    fine(&store).await;
    proxy.stall();
    fails(&store, &[ErrorKind::Timeout]).await;
    fails(&store, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
    proxy.heal();
    recovers(&store).await;
    proxy.delay(Duration::from_millis(20));
    fine(&store).await;
    proxy.delay(Duration::from_secs(5));
    fails(&store, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await;
    proxy.heal();
    proxy.reset();
    // Connections that were lost while nobody asked cost nobody an answer.
    fine(&store).await;
    proxy.cut();
    fails(&store, &[ErrorKind::Unavailable]).await;
    proxy.heal();
    recovers(&store).await;
}

#[tokio::test]
async fn a_wrong_password_of_our_own_account_is_misconfigured() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    for text in [
        settings(&slapd.url(), SHORT).replace("reader-secret", "wrong-one"),
        settings(&slapd.url(), SHORT).replace("cn=reader,", "cn=nobody,"),
    ] {
        let error = open(&text).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong-one"), "{error:?}");
    }
    // Changed while it runs.
    let store = opened(&settings(&slapd.url(), SHORT)).await;
    slapd.modify(&format!(
        "dn: cn=reader,ou=services,{}\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n",
        Slapd::BASE
    ));
    slapd.restart();
    fails(&store, &[ErrorKind::Misconfigured]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_questions_than_connections_wait_their_turn_and_then_are_told_that_it_is_too_much() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    let proxy = Proxy::start(([127, 0, 0, 1], slapd.port()).into());
    let more = "pool = { connect_timeout_ms = 2000, timeout_ms = 2000, wait_ms = 100, bind_connections = 1 }";
    let store = Arc::new(opened(&settings(&format!("ldap://{}", proxy.address()), more)).await);
    // In turns, all are answered.
    let right = async |_| matches!(ask(&store, "hobbes").await, Ok(Verdict::Accepted(_)));
    assert!(futures_util::future::join_all((0..16).map(right)).await.into_iter().all(|right| right));
    // A server that answers slowly is up, so those who wait too long are too many.
    proxy.delay(Duration::from_millis(150));
    let answers = futures_util::future::join_all((0..6).map(async |_| ask(&store, "hobbes").await)).await;
    let too_many =
        answers.iter().filter(|answer| matches!(answer, Err(error) if error.kind() == ErrorKind::Overloaded));
    assert!(too_many.count() > 0, "{answers:?}");
    assert!(answers.iter().any(Result::is_ok), "{answers:?}");
    proxy.heal();
    recovers(&store).await;
    // No more connections than were allowed: two that search, one that binds.
    assert!(proxy.open() <= 3, "{}", proxy.open());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_that_are_dropped_harm_no_other() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    let store = Arc::new(opened(&settings(&slapd.url(), SHORT)).await);
    for n in 0..200_u64 {
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), ask(&store, "hobbes")).await;
    }
    let all = futures_util::future::join_all((0..40).map(async |n| {
        if n % 2 == 0 {
            assert!(matches!(ask(&store, "hobbes").await, Ok(Verdict::Accepted(_))));
        } else {
            assert!(matches!(ask(&store, "wrong").await, Ok(Verdict::Rejected(Reject::BadPassword))));
        }
    }));
    // Two connections that bind, and a wait of 200 ms: some may be turned away where the machine is busy, so wait long.
    let _ = tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    fine(&store).await;
}

#[tokio::test]
async fn another_server_takes_over_and_is_kept() {
    if skipped("slapd") {
        return;
    }
    let (first, second) = (directory(), directory());
    let urls = format!("', '{}", second.url());
    let text = settings(&first.url(), SHORT).replacen(
        &format!("'{}'", first.url()),
        &format!("['{}{urls}']", first.url()),
        1,
    );
    let store = opened(&text).await;
    fine(&store).await;
    first.kill();
    recovers(&store).await;
    first.restart();
    // What works is kept, so the first is asked nothing.
    fine(&store).await;
    assert!(!first.log().contains("uid=calvin"), "{}", first.log());
    // One that hangs is left, too.
    second.stop_signal();
    let began = stopwatch();
    recovers_soon(&store).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    first.kill();
    fails(&store, &[ErrorKind::Unavailable, ErrorKind::Timeout]).await;
    second.cont_signal();
    recovers(&store).await;
    // Started while the first is down, the second does.
    let store = opened(&text).await;
    fine(&store).await;
    second.kill();
    let error = open(&text).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

/// What a server is told to answer to searches for somebody, or logins of them.
fn answers(slapd: &Slapd, code: u32, to: &str) {
    let (dn, add) =
        (format!("uid=calvin,ou=people,{}", Slapd::BASE), "add: objectClass\nobjectClass: errAuxObject");
    slapd.must(
        "ldapmodify",
        &["-M", "-e", "relax"],
        &format!("dn: {dn}\nchangetype: modify\n{add}\n-\nadd: errCode\nerrCode: {code}\n-\nadd: errOp\nerrOp: {to}\n"),
    );
}

/// It answers as it should again.
fn answers_truly(slapd: &Slapd) {
    let dn = format!("uid=calvin,ou=people,{}", Slapd::BASE);
    slapd.must(
        "ldapmodify",
        &["-M", "-e", "relax"],
        &format!("dn: {dn}\nchangetype: modify\ndelete: objectClass\nobjectClass: errAuxObject\n-\ndelete: errCode\n-\ndelete: errOp\n"),
    );
}

#[tokio::test]
async fn a_server_that_says_it_cannot_answer_now_is_left_for_another() {
    if skipped("slapd") {
        return;
    }
    let mut with_codes = options();
    with_codes.modules.push("retcode".to_owned());
    // What it is to answer to a login, the overlay reads as a stranger.
    with_codes.database.insert(0, "access to attrs=entry,objectClass by * read".to_owned());
    let overlay = ["overlay retcode", "retcode-parent \"ou=nowhere,dc=example,dc=com\"", "retcode-indir"];
    with_codes.database.extend(overlay.map(str::to_owned));
    let [first, second] = [(); 2].map(|()| {
        let slapd = Slapd::start(&with_codes);
        slapd.add(&world());
        slapd
    });
    // Nothing hangs here, so the limits may be as they are.
    let several = "pool = { service_connections = 3 }";
    let urls = format!("url = ['{}', '{}']", first.url(), second.url());
    let plain = settings(&first.url(), several).replacen(&format!("url = '{}'", first.url()), &urls, 1);
    let template = format!(
        "{urls}\nbase = 'ou=people,{0}'\nmode = 'bind-template'\nuser_dn = 'uid={{login}},ou=people,{0}'\n{several}",
        Slapd::BASE
    );
    for (text, to, code) in [
        (&plain, "search", 51),
        (&plain, "search", 52),
        (&plain, "search", 80),
        (&plain, "search", 81),
        (&plain, "bind", 51),
        (&plain, "bind", 52),
        (&template, "bind", 52),
    ] {
        let what = format!("{code} to {to}");
        let store = opened(text).await;
        // On every connection to the first.
        for _ in 0..3 {
            fine(&store).await;
        }
        answers(&first, code, to);
        let (before, elsewhere) = (first.log().len(), second.log().len());
        for _ in 0..3 {
            fine(&store).await;
        }
        // It logs what it has answered after it has answered.
        let began = stopwatch();
        let said = loop {
            let said = first.log().split_off(before);
            if said.contains(&format!("err={code}")) {
                break said;
            }
            assert!(began.elapsed() < SOON, "{what}: {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        // It was asked once: the other is kept.
        assert_eq!(said.matches(&format!("err={code}")).count(), 1, "{what}: {said}");
        assert!(second.log().split_off(elsewhere).contains("uid=calvin"), "{what}");
        // If no other answers, nobody knows.
        answers(&second, code, to);
        fails(&store, &[ErrorKind::Unavailable]).await;
        fails(&store, &[ErrorKind::Unavailable]).await;
        answers_truly(&first);
        fine(&store).await;
        second.kill();
        recovers(&store).await;
        second.restart();
        answers_truly(&second);
        let one = text
            .replace(&format!(", '{}'", second.url()), "")
            .replace("service_connections = 3", "service_connections = 1");
        let alone = opened(&one).await;
        answers(&first, code, to);
        let before = first.log().len();
        fails(&alone, &[ErrorKind::Unavailable]).await;
        answers_truly(&first);
        fine(&alone).await;
        // On a new connection: behind one address there may be several servers.
        let said = first.log().split_off(before);
        assert_eq!(said.contains("BIND dn=\"cn=reader"), to == "search", "{what}: {said}");
    }
}

async fn recovers_soon(store: &LdapStore) {
    while ask(store, "hobbes").await.is_err() {}
}

/// Nothing but passwords is tried there, so no search finds out that a server hangs.
#[tokio::test]
async fn passwords_alone_are_given_up_in_time_and_tried_on_the_other_server() {
    if skipped("slapd") {
        return;
    }
    let (first, second) = (directory(), directory());
    let text = format!(
        "url = ['{}', '{}']\nbase = 'ou=people,{2}'\nmode = 'bind-template'\n\
         user_dn = 'uid={{login}},ou=people,{2}'\n{SHORT}",
        first.url(),
        second.url(),
        Slapd::BASE
    );
    let store = opened(&text).await;
    fine(&store).await;
    first.stop_signal();
    fails(&store, &[ErrorKind::Timeout]).await;
    fine(&store).await;
    assert!(second.log().contains("uid=calvin"), "{}", second.log());
    second.stop_signal();
    fails(&store, &[ErrorKind::Timeout]).await;
    first.cont_signal();
    recovers(&store).await;
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_looked_at_later_if_that_is_said() {
    if skipped("slapd") {
        return;
    }
    let slapd = directory();
    slapd.kill();
    let error = open(&settings(&slapd.url(), SHORT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let store = opened(&settings(&slapd.url(), &format!("check = 'later'\n{SHORT}"))).await;
    let typo =
        opened(&settings(&slapd.url(), &format!("check = 'later'\nlogin_attr = 'uidd'\n{SHORT}"))).await;
    fails(&store, &[ErrorKind::Unavailable]).await;
    slapd.restart();
    // However many ask at first, all wait for one look, and not one after the other for one of their own.
    slapd.stop_signal();
    let all = futures_util::future::join_all(
        (0..10).map(async |_| fails(&store, &[ErrorKind::Timeout, ErrorKind::Unavailable]).await),
    );
    all.await;
    slapd.cont_signal();
    recovers(&store).await;
    fails(&typo, &[ErrorKind::Misconfigured]).await;
}

fn with_tls(shown: CertPair) -> Slapd {
    let slapd = Slapd::start(&SlapdOptions { tls: Some(SlapdTls { certs: certs(), shown }), ..options() });
    slapd.add(&world());
    slapd
}

fn tls_settings(url: &str, ca: &std::path::Path, more: &str) -> String {
    settings(url, &format!("tls = {{ ca = '{}'{more} }}\n{SHORT}", ca.display()))
}

#[tokio::test]
async fn tls_at_once_and_begun_later_and_a_socket_all_work() {
    if skipped("slapd") {
        return;
    }
    let slapd = with_tls(certs().server());
    fine(&opened(&tls_settings(&slapd.ldaps_url(), &certs().ca(), "")).await).await;
    fine(&opened(&tls_settings(&slapd.url(), &certs().ca(), ", starttls = true")).await).await;
    fine(&opened(&settings(&slapd.ldapi_url(), SHORT)).await).await;
    assert!(slapd.log().contains("STARTTLS"), "{}", slapd.log());
    // By its address, which the certificate has.
    let url = format!("ldaps://127.0.0.1:{}", slapd.tls_port());
    fine(&opened(&tls_settings(&url, &certs().ca(), "")).await).await;
}

#[tokio::test]
async fn our_account_logs_in_by_the_socket_and_by_a_certificate() {
    if skipped("slapd") {
        return;
    }
    let mut external =
        SlapdOptions { tls: Some(SlapdTls { certs: certs(), shown: certs().server() }), ..options() };
    let reader = format!("cn=reader,ou=services,{}", Slapd::BASE);
    external
        .global
        .push(format!("authz-regexp \"gidNumber=.*,cn=peercred,cn=external,cn=auth\" \"{reader}\""));
    external.global.push(format!("authz-regexp \"cn=client\" \"{reader}\""));
    let slapd = Slapd::start(&external);
    slapd.add(&world());
    let own = format!("bind_dn = '{reader}'\nbind_password = 'reader-secret'\n");
    let by_socket = settings(&slapd.ldapi_url(), &format!("sasl = 'external'\n{SHORT}")).replace(&own, "");
    fine(&opened(&by_socket).await).await;
    let CertPair { certificate, key } = certs().client();
    let pair = format!(", cert = '{}', key = '{}'", certificate.display(), key.display());
    let by_certificate =
        tls_settings(&slapd.ldaps_url(), &certs().ca(), &pair).replace(&own, "sasl = 'external'\n");
    fine(&opened(&by_certificate).await).await;
    // Without one, there is nobody to be.
    let nobody = tls_settings(&slapd.ldaps_url(), &certs().ca(), "").replace(&own, "sasl = 'external'\n");
    assert_eq!(open(&nobody).await.unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_before_anything_is_sent() {
    if skipped("slapd") {
        return;
    }
    let refused = async |slapd: &Slapd, ca: &std::path::Path| {
        for text in
            [tls_settings(&slapd.ldaps_url(), ca, ""), tls_settings(&slapd.url(), ca, ", starttls = true")]
        {
            let error = open(&text).await.expect_err("a certificate that is not good");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            assert!(format!("{error:?}").contains("certificate"), "{error:?}");
        }
        assert!(
            !slapd.log().contains("cn=reader,ou=services,dc=example,dc=com\" method=128"),
            "{}",
            slapd.log()
        );
    };
    refused(&with_tls(certs().server()), &certs().unknown_ca()).await;
    refused(&with_tls(certs().wrong_name()), &certs().ca()).await;
    refused(&with_tls(certs().expired()), &certs().ca()).await;
}

#[tokio::test]
async fn a_server_that_stops_to_be_trusted_is_unavailable_until_it_is_trusted_again() {
    if skipped("slapd") {
        return;
    }
    let good = SlapdOptions { tls: Some(SlapdTls { certs: certs(), shown: certs().server() }), ..options() };
    let expired =
        SlapdOptions { tls: Some(SlapdTls { certs: certs(), shown: certs().expired() }), ..options() };
    let slapd = Slapd::start(&good);
    slapd.add(&world());
    let store = opened(&tls_settings(&slapd.ldaps_url(), &certs().ca(), "")).await;
    fine(&store).await;
    slapd.restart_as(&expired);
    fails(&store, &[ErrorKind::Unavailable]).await;
    slapd.restart_as(&good);
    recovers(&store).await;
}

/// Whoever sits between takes the request for TLS away, and hopes for the password.
#[tokio::test]
async fn starttls_that_is_refused_or_taken_away_sends_no_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let mut heard = Vec::new();
        for answer in [
            // An extended response: protocol error, "unsupported".
            &[0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x02, 0x04, 0x00, 0x04, 0x00][..],
            // Success, and then no TLS but more of LDAP.
            &[0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00, 0x30, 0x0c]
                [..],
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..read]);
            stream.write_all(answer).unwrap();
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..read]);
                // What is no TLS any more.
                let _ = stream.write_all(b"\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00");
            }
        }
        heard
    });
    let text = tls_settings(&format!("ldap://localhost:{port}"), &certs().ca(), ", starttls = true");
    let refused = open(&text).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{refused:?}");
    let stripped = open(&text).await.unwrap_err();
    assert_eq!(stripped.kind(), ErrorKind::Unavailable, "{stripped:?}");
    let heard = heard.join().unwrap();
    let has = |text: &[u8]| heard.windows(text.len()).any(|part| part == text);
    assert!(has(b"1.3.6.1.4.1.1466.20037"), "it was asked for TLS");
    assert!(!has(b"reader-secret") && !has(b"cn=reader"), "the password was sent");
}

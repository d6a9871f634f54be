//! Where a server listens, and who may speak to it.

use std::path::Path;
use std::sync::Arc;

use auth_core::ErrorKind;
use serde_json::json;

use super::{HASH, MANAGED, add, check_group, check_password, ready, stack};
use crate::command::Command;
use crate::{admin, serve};

#[tokio::test]
async fn a_data_folder_whose_name_is_too_long_for_a_socket_is_refused_with_the_length_that_it_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let named = |length: usize| {
        let room = length - folder.path().as_os_str().len() - 1;
        let path = folder.path().join("x".repeat(room));
        std::fs::create_dir(&path).unwrap();
        path
    };
    let fits = named(96);
    let held = admin::listen(&fits).unwrap();
    assert!(admin::connect(&fits).await.unwrap().is_some());
    drop(held);
    let message =
        "the name of the data folder has 97 bytes; for the admin socket in it there may be 96 at most";
    let long = named(97);
    let error = admin::listen(&long).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Misconfigured, message));
    assert!(admin::connect(&long).await.unwrap().is_none(), "where no server can listen, none does");
}

#[tokio::test]
async fn a_front_that_cannot_be_is_refused_with_its_place() {
    for (server, message) in [
        (
            "trusted_proxies = [\"10.0.0.0/8\",\n\"x\"]",
            "gatepost.toml:9: server.trusted_proxies.1: this is neither an address nor a network",
        ),
        ("hosts = { \"a b\" = \"default\" }", "gatepost.toml:8: server.hosts.\"a b\": "),
    ] {
        let stack = stack(&format!("{MANAGED}[server]\n{server}\n")).await;
        let error = serve::front(&stack).unwrap_err();
        assert!(error.message().starts_with(message), "{error}");
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn one_server_runs_on_a_folder_and_its_socket_is_closed_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    assert!(admin::connect(data).await.unwrap().is_none());
    let (listener, held) = admin::listen(data).unwrap();
    assert_eq!((mode(&admin::socket(data)), mode(&data.join("server.lock"))), (0o600, 0o600));
    assert!(!data.join(".adm").exists());
    assert!(admin::connect(data).await.unwrap().is_some());
    let error = admin::listen(data).unwrap_err();
    assert_eq!(error.message(), "a server already runs on this data folder");
    assert!(admin::connect(data).await.unwrap().is_some(), "the refused one has harmed nothing");
    drop((listener, held));
    assert!(!admin::socket(data).exists());
    // One that was killed leaves its socket: nobody answers, and the next takes over.
    drop(tokio::net::UnixListener::bind(admin::socket(data)).unwrap());
    std::fs::create_dir(data.join(".adm")).unwrap();
    assert!(admin::connect(data).await.unwrap().is_none());
    let _held = admin::listen(data).unwrap();
    assert!(admin::connect(data).await.unwrap().is_some());
}

#[tokio::test]
async fn no_password_is_sent_to_a_socket_that_others_could_have_made() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _held = admin::listen(folder.path()).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = admin::connect(folder.path()).await.unwrap_err();
    assert_eq!(error.message(), "others may write to the data folder; make its mode 0700");
}

#[tokio::test]
async fn a_command_gets_through_the_socket_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack(MANAGED).await;
    let (listener, held) = admin::listen(folder.path()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let current = crate::current::Current::new(Arc::clone(&stack), auth_stack::Stack::builder).unwrap();
    let served = tokio::spawn(crate::net::unix(listener, admin::router(Arc::new(current)), stopped));
    let ask = async |command: Command| {
        let stream = admin::connect(folder.path()).await.unwrap().unwrap();
        admin::ask(stream, &command).await.unwrap()
    };
    assert_eq!(ask(add("calvin", &["staff"], ready(HASH, None))).await.exit, 0);
    assert_eq!(ask(check_password("calvin", "hobbes")).await.exit, 0);
    let there = ask(check_group("calvin", "ghosts")).await;
    assert_eq!((there.exit, &there.rows[0]["decision"]), (1, &json!("not_member")));
    stop.send(true).unwrap();
    served.await.unwrap();
    drop(held);
    assert!(admin::connect(folder.path()).await.unwrap().is_none());
}

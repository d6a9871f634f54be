//! Short words for what every test needs.

use std::time::Duration;

use auth_core::{
    Fingerprint, Id, Login, LoginRule, ObjectRef, Password, Principal, RealmId, Result, SourceInfo,
    StoredHash,
};

use crate::World;
use crate::servers::stopwatch;

/// Returns the realm `default`, case-mapped.
///
/// # Panics
/// Never: the name is possible.
#[must_use]
pub fn realm() -> RealmId {
    realm_with("default", LoginRule::CaseMapped)
}

/// Returns a realm of this name and rule.
///
/// # Panics
/// If the name is not possible.
#[must_use]
pub fn realm_with(name: &str, rule: LoginRule) -> RealmId {
    RealmId::new(name, rule).expect("a possible realm")
}

/// Returns a login in [`realm`].
///
/// # Panics
/// If the text is not a possible login.
#[must_use]
pub fn login(text: &str) -> Login {
    Login::parse(&realm(), text).expect("a possible login")
}

/// Returns a password.
///
/// # Panics
/// If the text is not a possible password.
#[must_use]
pub fn password(text: &str) -> Password {
    Password::new(text.as_bytes().to_vec()).expect("a possible password")
}

/// Returns a stored hash that names its own scheme.
#[must_use]
pub fn hash(text: &str) -> StoredHash {
    StoredHash::new(text.to_owned(), None)
}

/// Describes a source by its name.
#[must_use]
pub fn info(name: &str) -> SourceInfo {
    SourceInfo::new(name, Fingerprint::default())
}

/// Returns a person of the [`World`] as the source `memory` issues them.
///
/// # Panics
/// If the world has nobody of this login.
#[must_use]
pub fn principal(login: &str) -> Principal {
    principal_at("memory", login, Id::from(World::user(login).id))
}

/// Returns a person of any source, login (in [`realm`]) and id.
///
/// # Panics
/// If the text is not a possible login.
#[must_use]
pub fn principal_at(source: &str, text: &str, id: Id) -> Principal {
    let login = login(text);
    Principal::found(&info(source), &login, login.as_str(), id).expect("a login is its own")
}

/// Names an object with an id of one number.
///
/// # Panics
/// If the domain's name is not possible.
#[must_use]
pub fn object(domain: &str, id: i64) -> ObjectRef {
    ObjectRef::new(domain, [Id::from(id)]).expect("a possible object")
}

/// Reports whether the environment says `REQUIRE_ALL=1` (or `true`).
///
/// A test whose server or file can't be had may leave its cases out, unless this is so: then it must
/// fail. Otherwise a run in which nothing was tested looks like a good one.
#[must_use]
pub fn require_all() -> bool {
    std::env::var("REQUIRE_ALL").is_ok_and(|value| value == "1" || value == "true")
}

/// Asks until there is an answer, as one does whose server comes back.
///
/// # Panics
/// If there is none in time.
pub async fn answered<T>(patience: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(5);
    let began = stopwatch();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < patience, "{error:?}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

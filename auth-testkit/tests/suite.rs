//! The suite passes a right store, and catches what is planted in a wrong one.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, AccountState, Clock, Ctx, ErrorKind, Fence, GroupOracle, GroupSet, Id,
    Login, LoginRule, Lookup, Moment, ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Reject,
    Result, SourceInfo, Stamp, StoredHash, TokenCache, TokenId, TokenState, Verdict, Watch,
};
use auth_testkit::suite::{self, Bench, Case, TokenBench};
use auth_testkit::{
    ByTable, CountingSource, ManualClock, MemoryStore, Mode, ScriptedStore, info, password, realm, realm_with,
};
use futures_util::FutureExt;

/// Runs the cases and returns the names of those that failed.
async fn failed<S: Sync + ?Sized, B: Sync>(
    cases: Vec<Case<S, B>>,
    source: &S,
    bench: &B,
) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for case in cases {
        if AssertUnwindSafe(case.run(source, bench)).catch_unwind().await.is_err() {
            failed.push(case.name());
        }
    }
    failed
}

fn bench() -> Bench {
    Bench::new(&realm())
}

fn by_table<S: AccountSource>(store: S) -> ByTable<S> {
    ByTable::new(Arc::new(store), ManualClock::new())
}

#[tokio::test]
async fn a_right_store_passes_under_every_rule() {
    for (_, rule) in LoginRule::NAMES {
        let (store, realm) = (MemoryStore::new(), realm_with("default", rule));
        suite::run_all_account(&store, &realm).await;
        suite::run_all_groups(&store, &realm).await;
        suite::run_all_objects(&store, &realm).await;
        suite::run_all_password(&by_table(store), &realm).await;
    }
}

#[tokio::test]
async fn a_wrapper_that_only_counts_passes_and_has_counted() {
    let store = CountingSource::new(Arc::new(MemoryStore::new()));
    suite::run_all_account(&store, &realm()).await;
    suite::run_all_groups(&store, &realm()).await;
    suite::run_all_objects(&store, &realm()).await;
    let counts = store.counts();
    assert!(counts.account > 10 && counts.groups_of > 10 && counts.is_member > 10, "{counts:?}");
    assert!(counts.access > 10 && counts.access_many > 4 && counts.replace_hash > 3, "{counts:?}");
    assert!(counts.peek > 10 && counts.verify == 0, "{counts:?}");
    assert_eq!(store.asked(), counts.asked());
}

/// What is wrong with a [`Defective`] store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    FoldsNames,
    TakesPatterns,
    ForgetsHashes,
    TurnsErrorsIntoUnknown,
    ListsTheFirstGroupOnly,
    GoesByLogin,
    DeniesWhatIsNotThere,
    DeniesUndeclaredDomains,
    ReadsIdsAsNumbers,
    PeeksTheWrongAnswer,
    WritesBlindly,
}

#[derive(Debug)]
struct Defective(Defect, MemoryStore);

impl Defective {
    fn new(defect: Defect) -> Self {
        Self(defect, MemoryStore::new())
    }

    fn has(&self, defect: Defect) -> bool {
        self.0 == defect
    }

    /// The person of this login, whatever the id says.
    async fn by_login(&self, ctx: &Ctx, who: &Principal) -> Result<Principal> {
        if !self.has(Defect::GoesByLogin) {
            return Ok(who.clone());
        }
        let account = self.1.account(ctx, who.login()).await?;
        Ok(account.found().map_or_else(|| who.clone(), |account| account.principal().clone()))
    }
}

#[async_trait]
impl AccountSource for Defective {
    fn source(&self) -> &SourceInfo {
        AccountSource::source(&self.1)
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        let text = login.as_str();
        let folds = self.has(Defect::FoldsNames) && text == "c\u{e1}lvin";
        let matches = self.has(Defect::TakesPatterns) && text == "calvi%";
        if folds || matches {
            // A principal can only be made of the login that was asked for, so the store lies about it.
            return Ok(Account::found(
                AccountSource::source(&self.1),
                login,
                text,
                Id::from(1),
                AccountState::default(),
                None,
            ));
        }
        if self.has(Defect::TurnsErrorsIntoUnknown) && text == "susie" {
            let broken = ScriptedStore::in_mode(info("memory"), Mode::Fails(ErrorKind::Timeout));
            return Ok(AccountSource::account(&broken, ctx, login).await.unwrap_or(Lookup::NotFound));
        }
        let found = self.1.account(ctx, login).await?;
        if self.has(Defect::ForgetsHashes) {
            return Ok(
                found.map(|account| Account::new(account.principal().clone(), account.state().clone(), None))
            );
        }
        Ok(found)
    }

    async fn replace_hash(
        &self,
        ctx: &Ctx,
        who: &Principal,
        old: &StoredHash,
        new: &StoredHash,
    ) -> Result<bool> {
        let done = self.1.replace_hash(ctx, who, old, new).await?;
        Ok(done || self.has(Defect::WritesBlindly))
    }

    fn peek_account(&self, _ctx: &Ctx, _login: &Login) -> Option<Lookup<Account>> {
        self.has(Defect::PeeksTheWrongAnswer).then_some(Lookup::NotFound)
    }
}

#[async_trait]
impl GroupOracle for Defective {
    fn source(&self) -> &SourceInfo {
        GroupOracle::source(&self.1)
    }

    async fn groups_of(&self, ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        let who = self.by_login(ctx, who).await?;
        let groups = self.1.groups_of(ctx, &who).await?;
        if self.has(Defect::ListsTheFirstGroupOnly) {
            return Ok(groups.map(|groups| groups.iter().take(1).collect()));
        }
        Ok(groups)
    }

    fn peek_groups(&self, _ctx: &Ctx, _who: &Principal) -> Option<Lookup<GroupSet>> {
        self.has(Defect::PeeksTheWrongAnswer).then_some(Lookup::NotFound)
    }
}

#[async_trait]
impl ObjectPerms for Defective {
    fn source(&self) -> &SourceInfo {
        ObjectPerms::source(&self.1)
    }

    async fn access(
        &self,
        ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let who = self.by_login(ctx, who).await?;
        let number = match object.id() {
            [Id::Text(text)] if self.has(Defect::ReadsIdsAsNumbers) => {
                text.trim().split(' ').next().and_then(|number| number.parse::<i64>().ok())
            }
            _ => None,
        };
        let object = match number {
            Some(number) => ObjectRef::new(object.domain(), [Id::from(number)])?,
            None => object.clone(),
        };
        match self.1.access(ctx, &who, &object, mode).await {
            Ok(Access::NotFound) if self.has(Defect::DeniesWhatIsNotThere) => Ok(Access::Deny),
            Err(_) if self.has(Defect::DeniesUndeclaredDomains) => Ok(Access::Deny),
            answer => answer,
        }
    }

    fn peek_access(
        &self,
        _ctx: &Ctx,
        _who: &Principal,
        _object: &ObjectRef,
        _mode: Option<&str>,
    ) -> Option<Access> {
        self.has(Defect::PeeksTheWrongAnswer).then_some(Access::Deny)
    }
}

async fn check_account(defect: Defect, caught_by: &str) {
    let failed =
        failed(suite::account_cases(), &Defective::new(defect) as &dyn AccountSource, &bench()).await;
    assert!(failed.contains(&caught_by), "{defect:?} was caught by {failed:?}");
}

async fn check_password(defect: Defect, caught_by: &str) {
    let source = by_table(Defective::new(defect));
    let failed = failed(suite::password_cases(), &source as &dyn PasswordSource, &bench()).await;
    assert!(failed.contains(&caught_by), "{defect:?} was caught by {failed:?}");
}

async fn check_groups(defect: Defect, caught_by: &str) {
    let failed = failed(suite::group_cases(), &Defective::new(defect) as &dyn GroupOracle, &bench()).await;
    assert!(failed.contains(&caught_by), "{defect:?} was caught by {failed:?}");
}

async fn check_objects(defect: Defect, caught_by: &str) {
    let failed = failed(suite::object_cases(), &Defective::new(defect) as &dyn ObjectPerms, &bench()).await;
    assert!(failed.contains(&caught_by), "{defect:?} was caught by {failed:?}");
}

#[tokio::test]
async fn a_store_that_folds_names_is_caught() {
    for defect in [Defect::FoldsNames, Defect::TakesPatterns] {
        check_account(defect, "look_alikes_have_no_account").await;
        check_password(defect, "look_alikes_find_nobody").await;
    }
}

#[tokio::test]
async fn a_store_that_turns_an_error_into_unknown_is_caught() {
    check_account(Defect::TurnsErrorsIntoUnknown, "an_account_shows_who_and_in_what_state").await;
    check_password(Defect::TurnsErrorsIntoUnknown, "a_right_password_is_accepted_as_the_person_asked_for")
        .await;
}

#[tokio::test]
async fn a_store_that_lists_only_some_groups_is_caught() {
    check_groups(Defect::ListsTheFirstGroupOnly, "the_groups_of_a_person_are_all_there_and_sorted").await;
    check_groups(Defect::ListsTheFirstGroupOnly, "a_person_is_in_their_groups_and_in_no_other").await;
}

#[tokio::test]
async fn a_store_that_goes_by_login_where_the_id_counts_is_caught() {
    check_groups(Defect::GoesByLogin, "an_id_counts_and_not_a_login").await;
    check_objects(Defect::GoesByLogin, "an_id_counts_and_not_a_login").await;
}

#[tokio::test]
async fn a_store_that_mixes_up_its_answers_about_objects_is_caught() {
    check_objects(Defect::DeniesWhatIsNotThere, "an_object_that_is_not_there_is_not_found").await;
    check_objects(Defect::DeniesUndeclaredDomains, "an_undeclared_domain_is_invalid").await;
    check_objects(Defect::ReadsIdsAsNumbers, "strange_ids_are_no_objects").await;
}

#[tokio::test]
async fn a_peek_that_contradicts_the_answer_is_caught() {
    check_account(Defect::PeeksTheWrongAnswer, "what_is_peeked_is_what_is_shown").await;
    check_password(Defect::PeeksTheWrongAnswer, "what_is_peeked_is_what_is_answered").await;
    check_groups(Defect::PeeksTheWrongAnswer, "what_is_peeked_is_the_list_that_is_answered").await;
    check_objects(Defect::PeeksTheWrongAnswer, "what_is_peeked_is_what_is_allowed").await;
}

#[tokio::test]
async fn a_store_that_loses_or_overwrites_hashes_is_caught() {
    check_account(Defect::ForgetsHashes, "an_account_shows_its_stored_hash").await;
    check_account(Defect::WritesBlindly, "a_hash_is_replaced_only_if_it_is_still_the_old_one").await;
}

/// Decides in the wrong order or too broadly.
#[derive(Debug)]
enum Careless {
    TellsTheStateFirst,
    ComparesTheFirstByteOnly,
    AcceptsSomebodyElse,
}

#[derive(Debug)]
struct CarelessSource(Careless, ByTable<MemoryStore>);

#[async_trait]
impl PasswordSource for CarelessSource {
    fn source(&self) -> &SourceInfo {
        self.1.source()
    }

    async fn verify(&self, ctx: &Ctx, login: &Login, given: &Password) -> Result<Verdict> {
        let Lookup::Found(account) = self.1.account(ctx, login).await? else {
            return Ok(Verdict::Rejected(Reject::UnknownUser));
        };
        match self.0 {
            Careless::TellsTheStateFirst if account.state().disabled => {
                Ok(Verdict::Rejected(Reject::Disabled))
            }
            Careless::ComparesTheFirstByteOnly if given.as_bytes().first() == Some(&b'h') => {
                Ok(Verdict::Accepted(account.principal().clone()))
            }
            Careless::AcceptsSomebodyElse if login.as_str() == "susie" => {
                self.verify(ctx, &auth_testkit::login("calvin"), &password("hobbes")).await
            }
            _ => self.1.verify(ctx, login, given).await,
        }
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.1.account(ctx, login).await
    }
}

#[tokio::test]
async fn a_careless_password_source_is_caught() {
    let check = async |careless: Careless, caught_by: &str| {
        let source = CarelessSource(careless, by_table(MemoryStore::new()));
        let failed = failed(suite::password_cases(), &source as &dyn PasswordSource, &bench()).await;
        assert!(failed.contains(&caught_by), "{:?} was caught by {failed:?}", source.0);
    };
    check(Careless::TellsTheStateFirst, "the_state_of_an_account_is_hidden_from_a_wrong_password").await;
    check(Careless::ComparesTheFirstByteOnly, "a_password_is_compared_to_its_last_byte").await;
    check(Careless::AcceptsSomebodyElse, "a_right_password_is_accepted_as_the_person_asked_for").await;
}

#[tokio::test]
async fn a_store_that_fails_or_answers_garbage_passes_no_case_about_known_people() {
    for mode in [Mode::Fails(ErrorKind::Unavailable), Mode::SomebodyElse, Mode::Corrupt] {
        let store = ScriptedStore::in_mode(info("memory"), mode);
        let of_accounts = failed(suite::account_cases(), &store as &dyn AccountSource, &bench()).await;
        let of_groups = failed(suite::group_cases(), &store as &dyn GroupOracle, &bench()).await;
        let of_objects = failed(suite::object_cases(), &store as &dyn ObjectPerms, &bench()).await;
        let of_passwords = failed(suite::password_cases(), &store as &dyn PasswordSource, &bench()).await;
        assert!(of_accounts.contains(&"an_account_shows_who_and_in_what_state"), "{mode:?} {of_accounts:?}");
        assert!(of_groups.contains(&"an_unknown_person_is_in_no_group"), "{mode:?} {of_groups:?}");
        assert!(of_objects.contains(&"without_a_mode_any_right_will_do"), "{mode:?} {of_objects:?}");
        assert!(of_passwords.contains(&"an_unknown_login_is_unknown"), "{mode:?} {of_passwords:?}");
    }
}

/// A state, its stamp, and until when it is kept.
type Held = (Arc<TokenState>, Stamp, Moment);

/// A token cache, right or wrong.
#[derive(Debug)]
struct Tokens {
    clock: Arc<ManualClock>,
    fence: Arc<Fence>,
    fault: Fault,
    entries: Mutex<HashMap<TokenId, Held>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    KeepsNothing,
    IgnoresTtl,
    IgnoresTheTokensEnd,
    RenewsByReading,
    LooksAtHalfTheId,
    KeepsTheFirst,
    IgnoresTheWatch,
    IgnoresTheFence,
}

impl Tokens {
    fn new(fault: Fault) -> (Self, TokenBench) {
        let (clock, fence) = (ManualClock::new(), Arc::new(Fence::new()));
        let bench = TokenBench::manual(&realm(), &clock, &fence);
        (Self { clock, fence, fault, entries: Mutex::default() }, bench)
    }

    fn stamp(&self, state: &TokenState) -> Stamp {
        self.fence.plus_id(self.fence.login(state.principal.login()), &state.principal)
    }

    fn key(&self, id: &TokenId) -> TokenId {
        let mut bytes = *id.as_bytes();
        if self.fault == Fault::LooksAtHalfTheId {
            bytes = bytes.map(|_| bytes.first().copied().unwrap_or_default());
        }
        TokenId::new(bytes)
    }
}

#[async_trait]
impl TokenCache for Tokens {
    async fn get(&self, _ctx: &Ctx, id: &TokenId) -> Result<Lookup<Arc<TokenState>>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((state, stamp, until)) = entries.get_mut(&self.key(id)) else { return Ok(Lookup::NotFound) };
        let over = self.clock.now() >= *until && self.fault != Fault::IgnoresTtl;
        let ended = self.clock.wall() >= state.expires_at && self.fault != Fault::IgnoresTheTokensEnd;
        if self.fault == Fault::RenewsByReading {
            *until = self.clock.now() + Duration::from_secs(3);
        }
        let void = self.stamp(state) != *stamp && self.fault != Fault::IgnoresTheFence;
        Ok(if over || ended || void { Lookup::NotFound } else { Lookup::Found(Arc::clone(state)) })
    }

    async fn put(
        &self,
        _ctx: &Ctx,
        id: &TokenId,
        state: &Arc<TokenState>,
        ttl: Duration,
        watch: Watch,
    ) -> Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.key(id);
        let stays = self.fault == Fault::KeepsTheFirst && entries.contains_key(&key);
        let stamp = self.stamp(state);
        let still = self.fence.still(watch) || self.fault == Fault::IgnoresTheWatch;
        if self.fault != Fault::KeepsNothing && !stays && still {
            entries.insert(key, (Arc::clone(state), stamp, self.clock.now() + ttl));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_right_token_cache_passes_and_so_does_one_that_says_it_keeps_nothing() {
    let (cache, bench) = Tokens::new(Fault::None);
    suite::run_all_tokens(&cache, &bench).await;
    let (cache, bench) = Tokens::new(Fault::KeepsNothing);
    suite::run_all_tokens(&cache, &bench.keeping_nothing()).await;
}

#[tokio::test]
async fn a_wrong_token_cache_is_caught() {
    let check = async |fault: Fault, caught_by: &str| {
        let (cache, bench) = Tokens::new(fault);
        let failed = failed(suite::token_cases(), &cache as &dyn TokenCache, &bench).await;
        assert!(failed.contains(&caught_by), "{fault:?} was caught by {failed:?}");
    };
    check(Fault::KeepsNothing, "what_was_put_is_found_as_it_was").await;
    check(Fault::IgnoresTtl, "a_state_is_forgotten_after_its_time").await;
    check(Fault::IgnoresTheTokensEnd, "a_state_never_outlives_its_token").await;
    check(Fault::RenewsByReading, "reading_does_not_prolong_a_state").await;
    check(Fault::LooksAtHalfTheId, "tokens_do_not_mix").await;
    check(Fault::KeepsTheFirst, "a_later_state_replaces_an_earlier").await;
    check(Fault::IgnoresTheWatch, "what_was_validated_before_an_invalidation_is_not_kept").await;
    check(Fault::IgnoresTheFence, "an_invalidation_of_the_person_voids_a_state").await;
}

//! A store whose answers the test holds back and releases.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use auth_core::{
    Access, Account, AccountSource, AccountState, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Id, Login,
    Lookup, Member, ObjectPerms, ObjectRef, Password, PasswordSource, Principal, Result, SourceInfo,
    StoredHash, Verdict,
};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::hash;

/// More questions than this wait before they are put to the test.
const WAITING: usize = 1024;

/// A store whose answers the test holds back and releases.
///
/// Each question arrives at [`next_question`](Self::next_question) and waits there for its answer;
/// so a test sees that ten askers make one question, or does something between question and answer.
///
/// ```
/// use auth_core::{AccountSource, Ctx, Lookup};
/// use auth_testkit::{Answer, ScriptedStore, info, login};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = ScriptedStore::new(info("app"));
/// let (ctx, calvin) = (Ctx::new(), login("calvin"));
/// let asked = AccountSource::account(&store, &ctx, &calvin);
/// let script = async { store.next_question().await.answer(Ok(Answer::NotFound)) };
/// let (answer, ()) = futures_util::join!(asked, script);
/// assert_eq!(answer.unwrap(), Lookup::NotFound);
/// # });
/// ```
#[derive(Debug)]
pub struct ScriptedStore {
    info: SourceInfo,
    mode: Mutex<Mode>,
    asked: AtomicU64,
    sender: mpsc::Sender<Ask>,
    questions: AsyncMutex<mpsc::Receiver<Ask>>,
}

/// What a [`ScriptedStore`] does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Holds it until the test answers it.
    Held,
    /// Fails with this kind at once.
    Fails(ErrorKind),
    /// Never answers.
    Hangs,
    /// Shows and accepts somebody else, who is in every group that is asked for.
    SomebodyElse,
    /// Shows a hash that nobody can read; everything else is [`Corrupt`](ErrorKind::Corrupt).
    Corrupt,
}

/// What was asked. Holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// `verify` of a login. Takes a [`Verdict`].
    Verify(Login),
    /// `account` of a login, by either trait. Takes a `Lookup<Account>`.
    Account(Login),
    /// `replace_hash`. Takes a `bool`.
    ReplaceHash(Principal),
    /// `groups_of`. Takes a `Lookup<GroupSet>`.
    Groups(Principal),
    /// `is_member`. Takes a [`Member`].
    Member(Principal, String),
    /// `access`, and each object of `access_many`. Takes an [`Access`].
    Access(Principal, ObjectRef, Option<String>),
}

/// An answer to any [`Question`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// To [`Question::Verify`].
    Verdict(Verdict),
    /// To a question for something that may not be there, when it is not.
    NotFound,
    /// To [`Question::Account`].
    Account(Account),
    /// To [`Question::ReplaceHash`].
    Replaced(bool),
    /// To [`Question::Groups`].
    Groups(GroupSet),
    /// To [`Question::Member`].
    Member(Member),
    /// To [`Question::Access`].
    Access(Access),
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<Account> for Answer {
    fn from(account: Account) -> Self {
        Self::Account(account)
    }
}

impl From<GroupSet> for Answer {
    fn from(groups: GroupSet) -> Self {
        Self::Groups(groups)
    }
}

impl<T: Into<Self>> From<Lookup<T>> for Answer {
    fn from(lookup: Lookup<T>) -> Self {
        lookup.found().map_or(Self::NotFound, Into::into)
    }
}

impl From<bool> for Answer {
    fn from(replaced: bool) -> Self {
        Self::Replaced(replaced)
    }
}

impl From<Member> for Answer {
    fn from(member: Member) -> Self {
        Self::Member(member)
    }
}

impl From<Access> for Answer {
    fn from(access: Access) -> Self {
        Self::Access(access)
    }
}

/// A question that waits for its answer. Dropped, it answers with an [`Internal`](ErrorKind::Internal) error.
#[derive(Debug)]
pub struct Ask {
    question: Question,
    reply: oneshot::Sender<Result<Answer>>,
}

impl Ask {
    /// Returns what was asked.
    #[must_use]
    pub const fn question(&self) -> &Question {
        &self.question
    }

    /// Releases the answer. Nothing happens if the asker has left.
    ///
    /// The asker panics if the answer is to another sort of question.
    pub fn answer(self, answer: Result<impl Into<Answer>>) {
        let left = self.reply.send(answer.map(Into::into));
        drop(left);
    }

    /// Releases a failure.
    pub fn fail(self, kind: ErrorKind) {
        self.answer(Err::<Answer, _>(Error::new(kind, "as scripted")));
    }

    /// Reports whether the asker has left.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Waits until the asker has left.
    pub async fn abandoned(&mut self) {
        self.reply.closed().await;
    }
}

impl ScriptedStore {
    /// Makes a store that holds every question.
    #[must_use]
    pub fn new(info: SourceInfo) -> Self {
        Self::in_mode(info, Mode::Held)
    }

    /// Makes a store in a mode.
    #[must_use]
    pub fn in_mode(info: SourceInfo, mode: Mode) -> Self {
        let (sender, questions) = mpsc::channel(WAITING);
        let (mode, questions) = (Mutex::new(mode), AsyncMutex::new(questions));
        Self { info, mode, asked: AtomicU64::new(0), sender, questions }
    }

    /// Says what to do with later questions.
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Returns how many questions were put so far, in any mode.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits for the next question.
    ///
    /// # Panics
    /// Never: the store keeps the other end.
    pub async fn next_question(&self) -> Ask {
        self.questions.lock().await.recv().await.expect("the store keeps a sender")
    }

    /// Returns the next question if there is one now.
    pub fn try_question(&self) -> Option<Ask> {
        self.questions.try_lock().ok()?.try_recv().ok()
    }

    fn fault(&self, kind: ErrorKind) -> Error {
        Error::new(kind, "as scripted").at(self.info.name().as_ref())
    }

    fn somebody_else(&self, login: &Login) -> Principal {
        let other = format!("not-{}", login.as_str().chars().take(50).collect::<String>());
        let other = Login::parse(login.realm(), &other).expect("a possible login");
        Principal::found(&self.info, &other, other.as_str(), Id::from(i64::MAX)).expect("a login is its own")
    }

    async fn ask(&self, question: Question) -> Result<Answer> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mode = *self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        match mode {
            Mode::Held => {
                let (reply, answer) = oneshot::channel();
                if self.sender.send(Ask { question, reply }).await.is_err() {
                    return Err(self.fault(ErrorKind::Internal));
                }
                let dropped = |_| Err(self.fault(ErrorKind::Internal));
                answer.await.unwrap_or_else(dropped).map_err(|error| error.at(self.info.name().as_ref()))
            }
            Mode::Fails(kind) => Err(self.fault(kind)),
            Mode::Hangs => std::future::pending().await,
            Mode::SomebodyElse => Ok(self.mistaken(&question)),
            Mode::Corrupt => match &question {
                Question::Account(login) => {
                    let unreadable = Some(hash("$nobody$can$read$this"));
                    let id = Id::text(login.as_str());
                    let found = login.as_str();
                    Ok(Account::found(&self.info, login, found, id, AccountState::default(), unreadable)
                        .into())
                }
                _ => Err(self.fault(ErrorKind::Corrupt)),
            },
        }
    }

    fn mistaken(&self, question: &Question) -> Answer {
        match question {
            Question::Verify(login) => Verdict::Accepted(self.somebody_else(login)).into(),
            Question::Account(login) => {
                Account::new(self.somebody_else(login), AccountState::default(), None).into()
            }
            Question::ReplaceHash(_) => Answer::Replaced(true),
            Question::Groups(_) => ["admin", "ghosts", "staff"].into_iter().collect::<GroupSet>().into(),
            Question::Member(..) => Answer::Member(Member::Yes),
            Question::Access(..) => Answer::Access(Access::Allow),
        }
    }
}

#[track_caller]
fn mismatch(question: &str, answer: &Answer) -> ! {
    panic!("the script answers {question} with {answer:?}")
}

#[async_trait]
impl PasswordSource for ScriptedStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, _ctx: &Ctx, login: &Login, _password: &Password) -> Result<Verdict> {
        match self.ask(Question::Verify(login.clone())).await? {
            Answer::Verdict(verdict) => Ok(verdict),
            other => mismatch("verify", &other),
        }
    }

    async fn account(&self, ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        AccountSource::account(self, ctx, login).await
    }
}

#[async_trait]
impl AccountSource for ScriptedStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        match self.ask(Question::Account(login.clone())).await? {
            Answer::Account(account) => Ok(Lookup::Found(account)),
            Answer::NotFound => Ok(Lookup::NotFound),
            other => mismatch("account", &other),
        }
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        _old: &StoredHash,
        _new: &StoredHash,
    ) -> Result<bool> {
        match self.ask(Question::ReplaceHash(who.clone())).await? {
            Answer::Replaced(replaced) => Ok(replaced),
            other => mismatch("replace_hash", &other),
        }
    }
}

#[async_trait]
impl GroupOracle for ScriptedStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        match self.ask(Question::Groups(who.clone())).await? {
            Answer::Groups(groups) => Ok(Lookup::Found(groups)),
            Answer::NotFound => Ok(Lookup::NotFound),
            other => mismatch("groups_of", &other),
        }
    }

    async fn is_member(&self, ctx: &Ctx, who: &Principal, group: &str) -> Result<Member> {
        // An oracle that lists is asked for the list, as the trait's default does.
        if self.info.capabilities().lists_groups {
            return Ok(Member::of(&self.groups_of(ctx, who).await?, group));
        }
        match self.ask(Question::Member(who.clone(), group.to_owned())).await? {
            Answer::Member(member) => Ok(member),
            other => mismatch("is_member", &other),
        }
    }
}

#[async_trait]
impl ObjectPerms for ScriptedStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn access(
        &self,
        _ctx: &Ctx,
        who: &Principal,
        object: &ObjectRef,
        mode: Option<&str>,
    ) -> Result<Access> {
        let mode = mode.map(str::to_owned);
        match self.ask(Question::Access(who.clone(), object.clone(), mode)).await? {
            Answer::Access(access) => Ok(access),
            other => mismatch("access", &other),
        }
    }
}

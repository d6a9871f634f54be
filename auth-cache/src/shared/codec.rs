//! The one file that knows how answers are written: a version, and what bincode makes of the types below.
//!
//! The order of variants and fields is the format. To change anything, raise [`VERSION`]; the golden files hold what
//! each version looks like. Nothing here derives from a type of the domain, so that none can change the format.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::{
    Access, Account, AccountState, Error, ErrorKind, Fingerprint, GroupSet, Id, Lock, Login, LoginRule,
    Lookup, ObjectRef, Principal, RealmId, Result, SourceInfo, StoredHash, SubjectBuf, TokenState,
};
use bincode::de::BorrowDecoder;
use bincode::de::read::Reader as _;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Encode};
use zeroize::Zeroizing;

use crate::{Answer, Ask};

/// The format that is written, and the only one that is read.
pub(super) const VERSION: u8 = 2;

/// The longest that is written or read: what a memcached keeps unless it is told otherwise.
const MAX_BYTES: usize = 1 << 20;

/// What bincode may claim. It counts up to eight bytes for a number of one, so this is beyond all that
/// [`MAX_BYTES`] can hold; what is claimed for a list is checked against what is there.
const CLAIM: usize = 16 * MAX_BYTES;

/// Why bytes are not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Undecodable {
    /// They are of another format.
    Version,
    /// They are too long, too short, or make no sense.
    Malformed,
    /// They are an answer to another question: of another kind, about somebody else, or of another source.
    Foreign,
}

type Decoded<T> = std::result::Result<T, Undecodable>;

/// Writes an answer. It may hold a stored hash, so the bytes are wiped when dropped.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) for what no shared cache takes: more than 1 MiB.
pub(crate) fn encode(answer: &Answer) -> Result<Zeroizing<Vec<u8>>> {
    write(match answer {
        Answer::Account(Lookup::NotFound) => WireAnswer::NoAccount,
        Answer::Account(Lookup::Found(account)) => WireAnswer::Account(WireAccount::of(account)?),
        Answer::Groups(Lookup::NotFound) => WireAnswer::NoGroups,
        Answer::Groups(Lookup::Found(groups)) => WireAnswer::Groups(Names(groups.clone())),
        Answer::Access(access) => WireAnswer::Access(match access {
            Access::Allow => WireAccess::Allow,
            Access::Deny => WireAccess::Deny,
            Access::NotFound => WireAccess::NotFound,
        }),
        Answer::Token(state) => WireAnswer::Token(WireToken::of(state)?),
    })
}

/// Reads the answer of a source to a question.
///
/// # Errors
/// Any, for whatever is not exactly that.
pub(crate) fn decode(ask: &Ask<'_>, source: &SourceInfo, bytes: &[u8]) -> Decoded<Answer> {
    Ok(match (ask, read(bytes)?) {
        (Ask::Account(_), WireAnswer::NoAccount) => Answer::Account(Lookup::NotFound),
        (Ask::Account(login), WireAnswer::Account(account)) => {
            Answer::Account(Lookup::Found(account.into_account(login, source)?))
        }
        (Ask::Groups(_), WireAnswer::NoGroups) => Answer::Groups(Lookup::NotFound),
        (Ask::Groups(_), WireAnswer::Groups(Names(groups))) => Answer::Groups(Lookup::Found(groups)),
        (Ask::Access(..), WireAnswer::Access(access)) => Answer::Access(match access {
            WireAccess::Allow => Access::Allow,
            WireAccess::Deny => Access::Deny,
            WireAccess::NotFound => Access::NotFound,
        }),
        (Ask::Token(_), WireAnswer::Token(token)) => Answer::Token(Arc::new(token.into_state()?)),
        _ => return Err(Undecodable::Foreign),
    })
}

/// Writes what an invalidation is about, to tell others.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) for an id of more than 1 MiB.
pub(crate) fn encode_subject(subject: &SubjectBuf) -> Result<Vec<u8>> {
    let wire = match subject {
        SubjectBuf::Login(login) => WireSubject::Login(WireLogin::of(login)),
        SubjectBuf::Id { realm, source, id } => {
            WireSubject::Id { realm: WireRealm::of(realm), source, id: WireId::of(id)? }
        }
        SubjectBuf::Object { realm, object } => WireSubject::Object {
            realm: WireRealm::of(realm),
            domain: object.domain(),
            id: Ids(object.id().iter().map(WireId::of).collect::<Result<_>>()?),
        },
        SubjectBuf::Groups(realm) => WireSubject::Groups(WireRealm::of(realm)),
        SubjectBuf::Realm(realm) => WireSubject::Realm(WireRealm::of(realm)),
        SubjectBuf::All => WireSubject::All,
    };
    // There is no secret in it.
    write(wire).map(|mut bytes| std::mem::take(&mut *bytes))
}

/// Reads what an invalidation is about.
///
/// # Errors
/// Any, for whatever [`encode_subject`] has not written.
pub(crate) fn decode_subject(bytes: &[u8]) -> Decoded<SubjectBuf> {
    Ok(match read(bytes)? {
        WireSubject::Login(login) => SubjectBuf::Login(login.into_login()?),
        WireSubject::Id { realm, source, id } => {
            SubjectBuf::Id { realm: realm.into_realm()?, source: source.into(), id: id.into_id() }
        }
        WireSubject::Object { realm, domain, id } => SubjectBuf::Object {
            realm: realm.into_realm()?,
            object: ObjectRef::new(domain, id.0.into_iter().map(WireId::into_id))
                .map_err(|_| Undecodable::Malformed)?,
        },
        WireSubject::Groups(realm) => SubjectBuf::Groups(realm.into_realm()?),
        WireSubject::Realm(realm) => SubjectBuf::Realm(realm.into_realm()?),
        WireSubject::All => SubjectBuf::All,
    })
}

fn write(wire: impl Encode) -> Result<Zeroizing<Vec<u8>>> {
    let config = bincode::config::standard().with_limit::<CLAIM>();
    // The size is counted first, so nothing is left behind by a vector that grows.
    let bytes = bincode::encode_to_vec((VERSION, wire), config)
        .map_err(|_| Error::new(ErrorKind::Invalid, "an answer can't be written for a shared cache"))?;
    let bytes = Zeroizing::new(bytes);
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::Invalid, "an answer is too long for a shared cache"));
    }
    Ok(bytes)
}

fn read<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Decoded<T> {
    let (version, body) = bytes.split_first().ok_or(Undecodable::Malformed)?;
    if *version != VERSION {
        return Err(Undecodable::Version);
    }
    if bytes.len() > MAX_BYTES {
        return Err(Undecodable::Malformed);
    }
    let config = bincode::config::standard().with_limit::<CLAIM>();
    match bincode::borrow_decode_from_slice(body, config) {
        // To the last byte.
        Ok((wire, read)) if read == body.len() => Ok(wire),
        _ => Err(Undecodable::Malformed),
    }
}

#[derive(Encode, BorrowDecode)]
enum WireAnswer<'a> {
    NoAccount,
    Account(WireAccount<'a>),
    NoGroups,
    Groups(Names),
    Access(WireAccess),
    Token(WireToken<'a>),
}

#[derive(Encode, BorrowDecode)]
enum WireAccess {
    Allow,
    Deny,
    NotFound,
}

/// The realm and the source are known from the question, and written only to be compared with it.
#[derive(Encode, BorrowDecode)]
struct WireAccount<'a> {
    realm: &'a str,
    source: &'a str,
    // As the store spells it; the realm's rule makes the login of it.
    shown: &'a str,
    id: WireId<'a>,
    disabled: bool,
    lock: WireLock,
    not_before: Option<WireTime>,
    expires_at: Option<WireTime>,
    password_expires_at: Option<WireTime>,
    must_change: bool,
    hash: Option<WireHash<'a>>,
}

#[derive(Encode, BorrowDecode)]
struct WireHash<'a> {
    text: &'a str,
    scheme: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
enum WireLock {
    Open,
    Locked,
    Until(WireTime),
}

/// Seconds since 1970, rounded down, and nanoseconds from there.
#[derive(Encode, BorrowDecode)]
struct WireTime {
    seconds: i64,
    nanos: u32,
}

#[derive(Encode, BorrowDecode)]
struct WireToken<'a> {
    login: WireLogin<'a>,
    // Where it is not the login.
    shown: Option<&'a str>,
    source: &'a str,
    id: WireId<'a>,
    scopes: Names,
    expires_at: WireTime,
    claims: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
struct WireRealm<'a> {
    name: &'a str,
    rule: WireRule,
}

#[derive(Encode, BorrowDecode)]
enum WireRule {
    CaseMapped,
    CasePreserved,
    Exact,
}

#[derive(Encode, BorrowDecode)]
struct WireLogin<'a> {
    realm: WireRealm<'a>,
    login: &'a str,
}

#[derive(Encode, BorrowDecode)]
enum WireId<'a> {
    Int(i64),
    Text(&'a str),
    Uuid([u8; 16]),
}

#[derive(Encode, BorrowDecode)]
enum WireSubject<'a> {
    Login(WireLogin<'a>),
    Id { realm: WireRealm<'a>, source: &'a str, id: WireId<'a> },
    Object { realm: WireRealm<'a>, domain: &'a str, id: Ids<'a> },
    Groups(WireRealm<'a>),
    Realm(WireRealm<'a>),
    All,
}

/// A list of names, written as bincode writes a list of texts.
struct Names(GroupSet);

/// A list of ids, written as bincode writes a list.
struct Ids<'a>(Vec<WireId<'a>>);

impl Encode for Names {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> std::result::Result<(), EncodeError> {
        length_of(self.0.len()).encode(encoder)?;
        self.0.iter().try_for_each(|name| name.encode(encoder))
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Names {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> std::result::Result<Self, DecodeError> {
        let names: Vec<&str> = list(decoder)?;
        // As they were written: sorted, each once.
        if !names.is_sorted_by(|one, next| one < next) {
            return Err(DecodeError::Other("names are not in order"));
        }
        Ok(Self(names.into_iter().collect()))
    }
}

impl Encode for Ids<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> std::result::Result<(), EncodeError> {
        length_of(self.0.len()).encode(encoder)?;
        self.0.iter().try_for_each(|id| id.encode(encoder))
    }
}

impl<'de: 'a, 'a, Context> BorrowDecode<'de, Context> for Ids<'a> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> std::result::Result<Self, DecodeError> {
        list(decoder).map(Self)
    }
}

fn length_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Reads a list of what takes a byte at least. bincode's own would make room for as many as the bytes say there are;
/// this makes room for as many as there can be.
fn list<'de, T: BorrowDecode<'de, Context>, Context, D: BorrowDecoder<'de, Context = Context>>(
    decoder: &mut D,
) -> std::result::Result<Vec<T>, DecodeError> {
    let length = usize::try_from(u64::borrow_decode(decoder)?).unwrap_or(usize::MAX);
    if decoder.borrow_reader().peek_read(length).is_none() {
        return Err(DecodeError::Other("a list is longer than what is there"));
    }
    let mut list = Vec::with_capacity(length);
    for _ in 0..length {
        list.push(T::borrow_decode(decoder)?);
    }
    Ok(list)
}

impl<'a> WireAccount<'a> {
    fn of(account: &'a Account) -> Result<Self> {
        let (who, state) = (account.principal(), account.state());
        Ok(Self {
            realm: who.realm().name(),
            source: who.source(),
            shown: who.shown(),
            id: WireId::of(who.id())?,
            disabled: state.disabled,
            lock: match state.lock {
                Lock::Open => WireLock::Open,
                Lock::Locked => WireLock::Locked,
                Lock::Until(time) => WireLock::Until(WireTime::of(time)?),
            },
            not_before: state.not_before.map(WireTime::of).transpose()?,
            expires_at: state.expires_at.map(WireTime::of).transpose()?,
            password_expires_at: state.password_expires_at.map(WireTime::of).transpose()?,
            must_change: state.must_change,
            hash: account.hash().map(|hash| WireHash { text: hash.as_str(), scheme: hash.scheme() }),
        })
    }

    fn into_account(self, login: &Login, source: &SourceInfo) -> Decoded<Account> {
        if *self.realm != *login.realm().name() || *self.source != **source.name() {
            return Err(Undecodable::Foreign);
        }
        let who = Principal::found(source, login, self.shown, self.id.into_id());
        let time = |time: Option<WireTime>| time.map(WireTime::into_time).transpose();
        let state = AccountState {
            disabled: self.disabled,
            lock: match self.lock {
                WireLock::Open => Lock::Open,
                WireLock::Locked => Lock::Locked,
                WireLock::Until(time) => Lock::Until(time.into_time()?),
            },
            not_before: time(self.not_before)?,
            expires_at: time(self.expires_at)?,
            password_expires_at: time(self.password_expires_at)?,
            must_change: self.must_change,
        };
        let hash = self.hash.map(|hash| StoredHash::new(hash.text.to_owned(), hash.scheme));
        Ok(Account::new(who.ok_or(Undecodable::Foreign)?, state, hash))
    }
}

impl WireTime {
    fn of(time: SystemTime) -> Result<Self> {
        let (seconds, nanos) = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()).ok(), after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let seconds = 0_i64.checked_sub_unsigned(before.as_secs());
                match before.subsec_nanos() {
                    0 => (seconds, 0),
                    nanos => (seconds.and_then(|seconds| seconds.checked_sub(1)), NANOS - nanos),
                }
            }
        };
        let seconds = seconds.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "a time is too far away to be written for a shared cache")
        })?;
        Ok(Self { seconds, nanos })
    }

    fn into_time(self) -> Decoded<SystemTime> {
        if self.nanos >= NANOS {
            return Err(Undecodable::Malformed);
        }
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let second = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(whole)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(whole)
        };
        second
            .and_then(|second| second.checked_add(Duration::from_nanos(self.nanos.into())))
            .ok_or(Undecodable::Malformed)
    }
}

/// Nanoseconds of a second.
const NANOS: u32 = 1_000_000_000;

impl<'a> WireToken<'a> {
    fn of(state: &'a TokenState) -> Result<Self> {
        let who = &state.principal;
        Ok(Self {
            login: WireLogin::of(who.login()),
            shown: (who.shown() != who.login().as_str()).then_some(who.shown()),
            source: who.source(),
            id: WireId::of(who.id())?,
            scopes: Names(state.scopes.clone()),
            expires_at: WireTime::of(state.expires_at)?,
            claims: state.claims.as_deref(),
        })
    }

    fn into_state(self) -> Decoded<TokenState> {
        let login = self.login.into_login()?;
        // Whoever issued the id: only the name matters.
        let source = SourceInfo::new(self.source, Fingerprint::default());
        let shown = self.shown.unwrap_or(login.as_str());
        let principal = Principal::found(&source, &login, shown, self.id.into_id());
        Ok(TokenState {
            principal: principal.ok_or(Undecodable::Malformed)?,
            scopes: self.scopes.0,
            expires_at: self.expires_at.into_time()?,
            claims: self.claims.map(Arc::from),
        })
    }
}

impl<'a> WireRealm<'a> {
    fn of(realm: &'a RealmId) -> Self {
        let rule = match realm.rule() {
            LoginRule::CaseMapped => WireRule::CaseMapped,
            LoginRule::CasePreserved => WireRule::CasePreserved,
            LoginRule::Exact => WireRule::Exact,
        };
        Self { name: realm.name(), rule }
    }

    fn into_realm(self) -> Decoded<RealmId> {
        let rule = match self.rule {
            WireRule::CaseMapped => LoginRule::CaseMapped,
            WireRule::CasePreserved => LoginRule::CasePreserved,
            WireRule::Exact => LoginRule::Exact,
        };
        RealmId::new(self.name, rule).map_err(|_| Undecodable::Malformed)
    }
}

impl<'a> WireLogin<'a> {
    fn of(login: &'a Login) -> Self {
        Self { realm: WireRealm::of(login.realm()), login: login.as_str() }
    }

    fn into_login(self) -> Decoded<Login> {
        let realm = self.realm.into_realm()?;
        // It is in normal form already.
        Login::parse(&realm, self.login)
            .ok()
            .filter(|login| *login.as_str() == *self.login)
            .ok_or(Undecodable::Malformed)
    }
}

impl<'a> WireId<'a> {
    fn of(id: &'a Id) -> Result<Self> {
        match id {
            Id::Int(number) => Ok(Self::Int(*number)),
            Id::Text(text) => Ok(Self::Text(text)),
            Id::Uuid(bytes) => Ok(Self::Uuid(*bytes)),
            _ => Err(Error::new(ErrorKind::Invalid, "a kind of id can't be written for a shared cache")),
        }
    }

    fn into_id(self) -> Id {
        match self {
            Self::Int(number) => Id::Int(number),
            Self::Text(text) => Id::text(text),
            Self::Uuid(bytes) => Id::Uuid(bytes),
        }
    }
}

#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod answer;
mod chain;
mod clock;
mod counters;
mod ctx;
mod error;
mod families;
mod feed;
mod fence;
mod group_set;
mod hash;
mod link;
mod name;
mod object;
mod password;
mod ports;
mod principal;
mod realm;
mod source;
mod text;
mod tier;
mod traits;
mod watched;

pub use answer::{Access, Lookup, Member, Reject, TokenId, TokenState, Verdict};
pub use chain::{ChainEntry, DomainRouter, GroupUnion, Next, PasswordChain, Role};
pub use clock::{BoxFuture, Clock, Moment};
pub use counters::{Allowance, Attempt, Begun, Count, Counters, REMEMBERED_ATTEMPTS, Settled};
pub use ctx::{CacheUse, Ctx, Freshness, Record, Step};
pub use error::{Error, ErrorKind, Result};
pub use families::{
    Device, End, EndReason, Ends, Families, Family, FamilyId, Issued, Millis, Renewal, Retry, Revocations,
    Revoked, TokenMark,
};
pub use feed::{ChangeEar, ChangeFeed, Changed};
pub use fence::{Fence, IdWatch, Outward, Reached, Stamp, Subject, SubjectBuf, Watch};
pub use group_set::GroupSet;
pub use hash::Spelling;
pub use link::{ByLogin, Link, Linked};
pub use name::{Login, LoginRule, MAX_LOGIN_BYTES, RealmId, check_name};
pub use object::{Id, ObjectRef};
pub use password::{MAX_PASSWORD_BYTES, Password, StoredHash};
pub use ports::{
    Audit, Change, Directory, HashCheck, LoginEvent, NewUser, NoAudit, NoOwners, Owners, Resolver,
    SessionChange, SessionEvent, StateChange, UserEntry,
};
pub use principal::{Account, AccountState, Lock, Principal};
pub use realm::Realm;
pub use source::{Capabilities, Fingerprint, SourceInfo};
pub use tier::{
    Bus, ByteTier, Ear, Generation, Listening, TierAsk, TierRead, TierTime, TierWrite, WireName, Written,
};
pub use traits::{AccountSource, GroupOracle, ObjectPerms, PasswordSource, TokenCache};
pub use watched::{Health, HealthReport, Watched};

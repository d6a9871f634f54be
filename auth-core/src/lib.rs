#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod answer;
mod clock;
mod ctx;
mod error;
mod fence;
mod name;
mod object;
mod password;
mod ports;
mod principal;
mod source;
mod traits;

pub use answer::{Access, GroupSet, Lookup, Member, Reject, TokenId, TokenState, Verdict};
pub use clock::{BoxFuture, Clock, Moment};
pub use ctx::{CacheUse, Ctx, Freshness, Record, Step};
pub use error::{Error, ErrorKind, Result};
pub use fence::{Fence, IdWatch, Stamp, Subject};
pub use name::{Login, LoginRule, MAX_LOGIN_BYTES, RealmId, check_name};
pub use object::{Id, ObjectRef};
pub use password::{MAX_PASSWORD_BYTES, Password, StoredHash};
pub use ports::{Change, Directory, HashCheck, NewUser, NoOwners, Owners, StateChange, UserEntry};
pub use principal::{Account, AccountState, Lock, Principal};
pub use source::{Capabilities, Fingerprint, SourceInfo};
pub use traits::{AccountSource, GroupOracle, ObjectPerms, PasswordSource, TokenCache};

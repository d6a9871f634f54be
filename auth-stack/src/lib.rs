#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod assembly;
mod audit;
mod builder;
mod clock;
mod config;
mod data;
mod down;
mod feeds;
mod heir;
mod load;
mod nearest;
mod origins;
mod owners;
mod probe;
mod redis_source;
mod secret;
mod settings;
mod shared;
mod source;
mod stack;
mod token_config;
mod tokens;

pub use audit::LogAudit;
pub use auth_store_sql::Push;
pub use builder::Builder;
pub use clock::SystemClock;
pub use config::{
    AcceptWeak, Argon2Config, BackoffConfig, CacheConfig, CacheKeyConfig, CacheTls, Config, EachTtl, Factor,
    GuardSection, LimitsConfig, LinkKind, NextName, OnConfig, PasswordConfig, PreferredScheme, RealmConfig,
    RoleName, Rule, Seal, SecretsConfig, ServerConfig, Size, SourceCommon, Span, TtlConfig,
};
pub use data::check as check_data_folder;
pub use feeds::FeedReport;
pub use load::Loaded;
pub use origins::Origins;
pub use probe::SourceReport;
pub use shared::SharedReport;
pub use source::{AsyncOpen, Fault, Look, Opening, Passwords, Provides, SourceKind};
pub use stack::{MemoReport, Stack};
pub use token_config::{
    FsaSection, RefreshSection, ReuseName, TokenFormat, TokenHttp, TokenKeys, TokenProfile, TokenSection,
};

// The example of the project's front page compiles and runs with the documentation tests of this crate.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;

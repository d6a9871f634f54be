#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod audit;
mod builder;
mod clock;
mod config;
mod data;
mod load;
mod nearest;
mod source;
mod stack;

pub use audit::LogAudit;
pub use builder::Builder;
pub use clock::SystemClock;
pub use config::{
    AcceptWeak, Argon2Config, CacheConfig, Config, EachTtl, LimitsConfig, LinkKind, NextName, OnConfig,
    PasswordConfig, PreferredScheme, RealmConfig, RoleName, Rule, ServerConfig, SourceCommon, Span,
    TtlConfig,
};
pub use load::{Loaded, Origins};
pub use source::{AsyncOpen, Fault, Opening, Passwords, Provides, SourceKind};
pub use stack::{SourceReport, Stack};

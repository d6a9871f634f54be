#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

mod ber;
mod check;
mod config;
mod dn;
mod fault;
mod filter;
mod groups;
mod pool;
mod probe;
mod state;
mod store;
mod wire;

pub use config::{
    Check, LdapConfig, Mode, PoolConfig, Preset, Referrals, Sasl, Strategy, TlsConfig, TlsMode, Urls,
};
pub use probe::{Probe, ProbeAccount, ProbeOptions, probe};
pub use store::LdapStore;

#![forbid(unsafe_code)]
//! Composes stores, caches and realms from configuration.

#![forbid(unsafe_code)]
//! Password hash formats, quality rules, the bounded hashing pool, and the store wrapper that decides.

#![forbid(unsafe_code)]
//! Cache wrappers for Gatepost's traits: fenced, single-flight, bounded.

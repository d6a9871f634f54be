#![forbid(unsafe_code)]
//! SQL stores for Gatepost: your own schema or the managed one.

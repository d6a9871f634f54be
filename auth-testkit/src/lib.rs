#![forbid(unsafe_code)]
//! The behaviour suite that every Gatepost store and cache runs, and the tools to write one.

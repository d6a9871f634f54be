#![forbid(unsafe_code)]
//! File stores for Gatepost: htpasswd, htgroup and a TOML user file.

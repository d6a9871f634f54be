#![forbid(unsafe_code)]
//! HTTP front ends over a Gatepost realm: forward-auth for web servers.

#![forbid(unsafe_code)]
//! The gatepost binary: the server and the command line.

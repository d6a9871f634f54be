#![forbid(unsafe_code)]
//! Black-box suites against real servers and real front ends.

//! What clients and servers say of renewals.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::Server;

/// Returns which of its session the refresh token of an answer is.
///
/// # Panics
/// If there is none in it.
#[track_caller]
#[must_use]
pub fn generation(answer: &Value) -> u64 {
    let token = answer["refresh_token"].as_str().expect("a refresh token");
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("gpr_").expect("its prefix")).expect("base64url");
    let number = bytes.get(17..21).expect("a generation");
    number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Checks that a server took no refresh token for a stolen or a forged one.
///
/// # Panics
/// If it has counted or logged one.
#[track_caller]
pub fn no_alarm(server: &Server) {
    let (metrics, log) = (server.get("/metrics").body, server.logged());
    for name in ["refresh_reuse_detected", "forged_generation"] {
        let sample = format!("change=\"{name}\"");
        let counted = metrics.lines().filter(|line| line.contains(&sample));
        assert!(counted.clone().all(|line| line.ends_with(" 0")), "{:?}", counted.collect::<Vec<_>>());
        assert!(!log.contains(name), "{log}");
    }
}

//! Guessers of passwords before a server that knows from which network they come.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test says what is wrong")]

use integration_tests::{Gatepost, basic, get};

/// calvin with the password hobbes.
const CALVIN: &str = "calvin:$2b$04$4n/ZxhrDmpZd5GWUMjCuKuNMAAN72c3x1cUL7Jtto0J2Ti3NL5Qf6\n";

const CONFIG: &str = "
[source.one]
kind = 'file'
path = 'FOLDER/one.htpasswd'
[server]
trusted_proxies = ['127.0.0.1']
";

#[test]
fn guesses_from_one_network_wait_and_everybody_else_does_not() {
    let gatepost = Gatepost::with_config(CONFIG);
    gatepost.write("one.htpasswd", CALVIN);
    let server = gatepost.serve();
    let ask = |path: &str, from: &str, password: &str| {
        let header = basic("calvin", password.as_bytes());
        get(server.address(), path, &[("Authorization", &header), ("X-Forwarded-For", from)])
    };
    let guesser = "203.0.113.5";
    for n in 0..11 {
        assert_eq!(ask("/auth/forward", guesser, &format!("guess {n}")).status, 401);
    }
    // The pause after the first above the free ones is a second, which is waited for; then three.
    assert_eq!(ask("/auth/forward", guesser, "guess 11").status, 401);
    assert_eq!(ask("/auth/forward", guesser, "guess 12").status, 401);
    let told = ask("/auth/forward", guesser, "hobbes");
    assert_eq!(told.status, 429);
    let seconds: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!((4..=5).contains(&seconds), "{seconds}");
    assert_eq!(ask("/auth/nginx", guesser, "hobbes").status, 403, "nginx knows no 429");
    assert_eq!(ask("/auth/forward", "198.51.100.7", "hobbes").status, 200);
    assert_eq!(gatepost.json(&["check", "password", "calvin"], b"hobbes", 0)["decision"], "accepted");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("gatepost_guard_attempts_total{what=\"wrong\"} 13\n"), "{metrics}");
}

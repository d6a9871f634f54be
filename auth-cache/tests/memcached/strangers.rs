//! Servers that say what they should not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use auth_cache::MemcachedConfig;
use auth_core::{ByteTier as _, ErrorKind};
use auth_testkit::servers::skipped;

use crate::helpers::{MINUTE, PREFIX, keep, key, name, patient, read, server, tier};

const STATS: &str = "STAT pid 7\r\nSTAT uptime 5\r\nSTAT time 1800000000\r\nEND\r\nMN\r\n";

/// A server that tells of itself as it should, and answers every other command with this. `OPAQUE` is that of the
/// command.
fn odd(stats: &'static str, answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut at_stats = false;
            while let Some(Ok(line)) = lines.next() {
                let said = match line.as_str() {
                    "stats" => {
                        at_stats = true;
                        continue;
                    }
                    "mn" if at_stats => {
                        at_stats = false;
                        stats.to_owned()
                    }
                    "mn" => "MN\r\n".to_owned(),
                    line => {
                        let opaque = line.rsplit_once(" O").map_or("", |(_, opaque)| opaque);
                        answer.replace("OPAQUE", opaque)
                    }
                };
                if stream.write_all(said.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[tokio::test]
async fn an_answer_to_another_question_ends_the_connection_and_is_no_answer() {
    let answers = [
        "VA 2 t9 Offff\r\nhi\r\n",
        "VA 2 t9\r\nhi\r\n",
        "VA 2 t9 OOPAQUE\r\nhixx\r\n",
        "VA 99999999999 t9 OOPAQUE\r\nhi\r\n",
        "VA x t9 OOPAQUE\r\nhi\r\n",
        "HD t9 OOPAQUE\r\n",
        "NF OOPAQUE\r\n",
        "VA 2 tx OOPAQUE\r\nhi\r\n",
        "VA 2 t9 OOPAQUE\r\nhi\r\nVA 2 t9 OOPAQUE\r\nhi\r\n",
        "SERVER_ERROR busy\r\n",
        "VALUE key 0 2\r\nhi\r\nEND\r\n",
        "STAT pid 1\r\n",
        "junk\r\n",
        "junk\n",
        "\u{fe}\r\n",
    ];
    for answer in answers {
        let tier = tier(patient(&[odd(STATS, answer)]));
        tier.probe().await.unwrap();
        let error = read(&tier, name(1), &[]).await.expect_err(answer);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{answer:?}: {error}");
    }
    let endless: &'static str = Box::leak("x".repeat(5000).into_boxed_str());
    let tier = tier(patient(&[odd(STATS, endless)]));
    assert_eq!(read(&tier, name(1), &[]).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_server_that_can_not_do_what_is_needed_is_misconfigured() {
    for stats in ["CLIENT_ERROR unauthenticated\r\n", "ERROR\r\n"] {
        let tier = tier(patient(&[odd(stats, "")]));
        let error = tier.probe().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
    }
    let tier = tier(patient(&[odd("STAT pid 7\r\nEND\r\nMN\r\n", "")]));
    assert_eq!(tier.probe().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_generation_that_somebody_has_overwritten_is_an_error_and_no_generation() {
    if skipped("memcached") {
        return;
    }
    let server = server();
    let tier = tier(patient(&[server.port()]));
    server.command(format!("ms {} 4 T60\r\njunk", key(&name(1))));
    assert_eq!(read(&tier, name(2), &[name(1)]).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(tier.make(0, &[name(1)], MINUTE).await.unwrap_err().kind(), ErrorKind::Corrupt);
    tier.void(0, &[name(1)]).await.unwrap();
    assert!(tier.make(0, &[name(1)], MINUTE).await.is_ok());
}

#[tokio::test]
async fn no_error_and_no_debug_names_a_key_or_a_value() {
    if skipped("memcached") {
        return;
    }
    for transport in crate::helpers::BOTH {
        let server = server();
        let mut config = patient(&[server.port()]);
        (config.transport, config.timeout) = (transport, std::time::Duration::from_millis(40));
        let tier = tier(config);
        crate::helpers::recovery(&tier, name(1)).await;
        server.stop_signal();
        let mut said = format!("{tier:?}");
        for _ in 0..3 {
            let error = read(&tier, name(1), &[name(2)]).await.unwrap_err();
            said += &format!("{error} {error:?} {tier:?}");
        }
        for secret in [PREFIX, key(&name(1)).strip_prefix(PREFIX).unwrap(), key(&name(2)).as_str()] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}

#[tokio::test]
async fn a_unix_socket_is_spoken_to_like_any_other_server() {
    if skipped("memcached") {
        return;
    }
    // What memcached offers is a port or a socket: this makes a socket of the port.
    let server = server();
    let folder = std::env::temp_dir().join(format!("memcached-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("m.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = server.port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut near, mut far) =
                (stream.unwrap(), std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
            let (mut back, mut forth) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut near, &mut far));
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
        }
    });
    let tier = tier(MemcachedConfig::new(format!("memcached+unix://{}", path.display()), PREFIX));
    crate::helpers::recovery(&tier, name(1)).await;
    keep(&tier, name(1), b"bytes").await;
    assert_eq!(read(&tier, name(1), &[]).await.unwrap().entry.as_deref(), Some(&b"bytes"[..]));
    std::fs::remove_dir_all(folder).unwrap();
}

//! Keys that follow each other, in a folder that several rings share as several processes would.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::ErrorKind;
use auth_token::{
    AccessFormat, Algorithm, Ends, Grant, Jwk, JwkSet, JwtConfig, JwtFormat, KeyRing, KeyState, KeyType,
    Profile, Refusal, RingConfig, Rotation, Short,
};
use serde_json::{Map, Value};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn at(unix: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
}

fn open(folder: &Path, now: u64) -> Arc<KeyRing> {
    Arc::new(KeyRing::open(RingConfig::new(folder.join("keys")), at(now)).unwrap())
}

fn format(ring: &Arc<KeyRing>, now: u64) -> JwtFormat {
    JwtFormat::new(JwtConfig::new(Profile::Native), Arc::clone(ring), at(now)).unwrap()
}

fn token(format: &JwtFormat, now: u64) -> String {
    let grant = Grant {
        login: "calvin",
        scopes: &[],
        issued_at: at(now),
        expires_at: at(now + 600),
        family: None,
        client: None,
        auth_time: None,
        extra: Map::new(),
    };
    format.issue(&grant).unwrap()
}

fn published(ring: &KeyRing, now: u64) -> Vec<String> {
    let set = JwkSet::published(&ring.jwks(at(now))).unwrap();
    let mut kids: Vec<_> = set.keys().iter().map(|key| key.kid().unwrap().to_owned()).collect();
    kids.sort();
    kids
}

fn states(ring: &KeyRing, now: u64) -> Vec<KeyState> {
    ring.entries(at(now)).into_iter().map(|entry| entry.state).collect()
}

#[test]
fn a_first_start_makes_a_key_that_a_second_finds() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    assert_eq!(states(&ring, NOW), [KeyState::Current]);
    let again = open(folder.path(), NOW + 1);
    assert_eq!(ring.entries(at(NOW)), again.entries(at(NOW)));
    assert_eq!(published(&ring, NOW), published(&again, NOW));
    let keys = folder.path().join("keys");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&keys), 0o700);
    let files: Vec<_> = fs::read_dir(&keys).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 3 && files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

#[test]
fn a_key_is_published_then_signs_then_verifies_then_goes() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    let format = format(&ring, NOW);
    let first = token(&format, NOW);
    let kid = |token: &str| {
        let live = ring.entries(at(NOW + 2 * DAY));
        let of = |entry: &auth_token::RingEntry| {
            let header = token.split('.').next().unwrap();
            use base64::Engine as _;
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            header["kid"].as_str() == entry.kid.as_deref()
        };
        live.iter().any(of)
    };

    let next = ring.rotate(at(NOW), Rotation::Planned).unwrap();
    assert_eq!((next.state, next.activates), (KeyState::Next, at(NOW + DAY)));
    assert_eq!(ring.rotate(at(NOW + 1), Rotation::Planned).unwrap(), next, "one that waits is the next");
    assert_eq!(states(&ring, NOW + 1), [KeyState::Next, KeyState::Current]);
    assert_eq!(published(&ring, NOW + 1).len(), 2, "published before it signs");
    let second = token(&format, NOW + DAY - 1);
    assert!(!kid(&second), "the first still signs");

    let third = token(&format, NOW + DAY);
    assert!(kid(&third), "now the next does");
    assert_eq!(states(&ring, NOW + DAY), [KeyState::Current, KeyState::Previous]);
    let keep = NOW + DAY + 90 * 60;
    for token in [&first, &second] {
        assert!(format.verify(token, at(keep - 1), Ends::Ignored).is_ok());
        assert_eq!(format.verify(token, at(keep), Ends::Ignored), Err(Refusal::UnknownKey));
    }
    assert!(format.verify(&third, at(keep), Ends::Ignored).is_ok());
    assert_eq!((published(&ring, keep).len(), states(&ring, keep)), (1, vec![KeyState::Current]));
    // The next change takes the file of what has gone.
    ring.rotate(at(keep), Rotation::Planned).unwrap();
    let keys = fs::read_dir(folder.path().join("keys")).unwrap();
    let keys =
        keys.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "jwk"));
    assert_eq!(keys.count(), 2);
}

#[test]
fn a_key_is_due_a_day_before_its_ninety_days_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    assert!(!ring.due(at(NOW)) && !ring.due(at(NOW + 89 * DAY - 1)));
    assert!(ring.due(at(NOW + 89 * DAY)));
    ring.rotate(at(NOW + 89 * DAY), Rotation::Planned).unwrap();
    assert!(!ring.due(at(NOW + 89 * DAY)) && !ring.due(at(NOW + 178 * DAY - 1)));
    assert!(ring.due(at(NOW + 179 * DAY)));
    let never = RingConfig { every: None, ..RingConfig::new(folder.path().join("keys")) };
    assert!(!KeyRing::open(never, at(NOW)).unwrap().due(at(NOW + 1000 * DAY)));
}

#[test]
fn another_process_sees_a_rotation_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (open(folder.path(), NOW), open(folder.path(), NOW));
    let (ours, theirs) = (format(&here, NOW), format(&there, NOW));
    here.rotate(at(NOW), Rotation::Planned).unwrap();
    assert_eq!(published(&there, NOW + 1).len(), 1, "not looked yet");
    assert_eq!(published(&there, NOW + 2).len(), 2, "within two seconds");
    assert_eq!(states(&open(folder.path(), NOW), NOW + 3), [KeyState::Next, KeyState::Current]);
    let of_next = token(&ours, NOW + DAY);
    assert!(theirs.verify(&of_next, at(NOW + DAY), Ends::Checked).is_ok());

    // At once if a token of a new key comes: it need not wait for the next look.
    let now = NOW + DAY + 10;
    assert!(theirs.verify(&of_next, at(now), Ends::Checked).is_ok());
    here.rotate(at(now), Rotation::AtOnce).unwrap();
    let newest = token(&ours, now);
    assert!(theirs.verify(&newest, at(now + 1), Ends::Checked).is_ok());
    assert!(theirs.verify(&of_next, at(now + 1), Ends::Checked).is_ok(), "the one before still verifies");

    // But not more often than four times a second, whatever keys are named.
    here.rotate(at(now + 1), Rotation::AtOnce).unwrap();
    let newest = token(&ours, now + 1);
    let soon = at(now + 1) + Duration::from_millis(249);
    assert_eq!(theirs.verify(&newest, soon, Ends::Checked), Err(Refusal::UnknownKey));
    assert!(theirs.verify(&newest, soon + Duration::from_millis(1), Ends::Checked).is_ok());
}

#[test]
fn whatever_a_ring_is_asked_it_looks_every_two_seconds_also_after_its_clock_was_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let here = open(folder.path(), NOW);
    let there: Vec<_> = (0..3).map(|_| open(folder.path(), NOW)).collect();
    let due = NOW + 89 * DAY;
    here.rotate(at(due), Rotation::Planned).unwrap();
    assert!(!there[0].due(at(due + 2)), "somebody else has made it");
    assert_eq!(states(&there[1], due + 2), [KeyState::Next, KeyState::Current]);
    assert_eq!(published(&there[2], due + 2).len(), 2);
    here.rotate(at(due + 2), Rotation::AtOnce).unwrap();
    assert_eq!(states(&there[1], due + 3), [KeyState::Next, KeyState::Current], "not looked yet");
    assert_eq!(states(&there[1], due + 4), [KeyState::Current, KeyState::Previous]);
    let back = due - DAY;
    here.rotate(at(back), Rotation::AtOnce).unwrap();
    assert_eq!(published(&there[1], back), published(&here, back), "the time to look was a day away");
}

#[test]
fn a_clock_that_was_put_back_leaves_a_key_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    let before = NOW - DAY;
    assert_eq!(states(&ring, before), [KeyState::Current]);
    let format = format(&ring, before);
    assert!(format.verify(&token(&format, before), at(before), Ends::Checked).is_ok());
}

#[test]
fn a_key_that_signs_at_once_takes_the_place_of_one_that_waits_and_moves_no_other_end() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    let first = ring.entries(at(NOW))[0].kid.clone();
    let waiting = ring.rotate(at(NOW), Rotation::Planned).unwrap();
    let end = |now: u64| {
        let entry = ring.entries(at(now)).into_iter().find(|entry| entry.kid == first);
        entry.and_then(|entry| entry.retires)
    };
    let planned = NOW + DAY + 90 * 60;
    assert_eq!(end(NOW), Some(at(planned)));
    let second = ring.rotate(at(NOW + 60), Rotation::AtOnce).unwrap();
    assert_eq!((second.state, second.activates), (KeyState::Current, at(NOW + 60)));
    assert_eq!(states(&ring, NOW + 60), [KeyState::Current, KeyState::Previous]);
    assert!(ring.entries(at(NOW + DAY)).iter().all(|entry| entry.kid != waiting.kid), "it never will sign");
    assert_eq!(ring.entries(at(NOW + DAY))[0].kid, second.kid);
    assert_eq!(end(NOW + 60), Some(at(planned)), "as it was");
    let third = ring.rotate(at(NOW + 60), Rotation::AtOnce).unwrap();
    assert_eq!(ring.entries(at(NOW + 60))[0].kid, third.kid, "the newer one of two of the same second");
    assert_eq!(states(&ring, NOW + 60), [KeyState::Current, KeyState::Previous, KeyState::Previous]);
}

#[test]
fn after_a_compromise_no_other_key_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (open(folder.path(), NOW), open(folder.path(), NOW));
    let (ours, theirs) = (format(&here, NOW), format(&there, NOW));
    let stolen = token(&ours, NOW);
    here.rotate(at(NOW), Rotation::Planned).unwrap();
    let entry = here.rotate(at(NOW + 5), Rotation::Compromised).unwrap();
    assert_eq!(entry.state, KeyState::Current);
    for format in [&ours, &theirs] {
        assert_eq!(format.verify(&stolen, at(NOW + 8), Ends::Checked), Err(Refusal::UnknownKey));
        assert!(format.verify(&token(&ours, NOW + 8), at(NOW + 8), Ends::Checked).is_ok());
    }
    assert_eq!(published(&there, NOW + 8).len(), 1);
}

#[test]
fn rotations_at_the_same_time_leave_one_next_key() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), NOW);
    let nexts: Vec<_> = std::thread::scope(|scope| {
        let rings: Vec<_> = (0..8).map(|_| open(folder.path(), NOW)).collect();
        let threads: Vec<_> = rings
            .into_iter()
            .map(|ring| scope.spawn(move || ring.rotate(at(NOW), Rotation::Planned).unwrap().kid))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(nexts.iter().all(|kid| *kid == nexts[0]), "{nexts:?}");
    assert_eq!(states(&open(folder.path(), NOW), NOW), [KeyState::Next, KeyState::Current]);
}

#[test]
fn who_starts_first_at_the_same_time_makes_the_key_of_all() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let together = std::sync::Barrier::new(4);
        let rings: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        together.wait();
                        open(folder.path(), NOW)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let there = open(folder.path(), NOW).entries(at(NOW));
        assert!(rings.iter().all(|ring| ring.entries(at(NOW)) == there));
    }
}

#[test]
fn who_changes_keys_takes_no_key_of_another_who_does() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ring = open(folder.path(), NOW);
                for _ in 0..25 {
                    ring.rotate(at(NOW), Rotation::AtOnce).unwrap();
                }
            });
        }
    });
    ring.refresh(at(NOW)).unwrap();
    assert_eq!(states(&ring, NOW).len(), 101);
}

#[test]
fn a_ring_that_others_may_read_or_that_is_broken_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let kid = open(folder.path(), NOW).entries(at(NOW))[0].kid.clone().unwrap();
    let keys = folder.path().join("keys");
    let kind = || KeyRing::open(RingConfig::new(&keys), at(NOW)).map(drop).map_err(|error| error.kind());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let key = keys.join(format!("{kid}.jwk"));
    for (path, right, wrong) in [(&keys, 0o700, [0o750, 0o701]), (&key, 0o600, [0o640, 0o604])] {
        for wrong in wrong {
            mode(path, wrong);
            assert_eq!(kind(), Err(ErrorKind::Misconfigured), "{wrong:o}");
        }
        mode(path, right);
        assert_eq!(kind(), Ok(()));
    }
    let text = fs::read_to_string(&key).unwrap();
    let public = Jwk::parse(&text, Short::Refused).unwrap().public().unwrap();
    for wrong in [
        text.replace("EdDSA", "HS256"),
        text.replace(&kid, "another"),
        public.to_json().to_string(),
        format!("{text}{}", " ".repeat(64 * 1024)),
    ] {
        assert_ne!(wrong, text);
        fs::write(&key, wrong).unwrap();
        assert_eq!(kind(), Err(ErrorKind::Corrupt));
    }
    fs::remove_file(&key).unwrap();
    assert_eq!(kind(), Err(ErrorKind::Corrupt));
    fs::write(&key, text).unwrap();
    mode(&key, 0o600);
    let index = keys.join("ring.json");
    let right = fs::read_to_string(&index).unwrap();
    // Where these names lead there is a good key.
    let long = "k".repeat(129);
    for name in ["../outside", &long] {
        let there = keys.join(format!("{name}.jwk"));
        fs::write(&there, fs::read_to_string(&key).unwrap().replace(&kid, name)).unwrap();
        mode(&there, 0o600);
    }
    for wrong in [
        right.replace(&kid, "../outside"),
        right.replace(&kid, &long),
        right.replace("\"format\": 1", "\"format\": 2"),
        right.replace("EdDSA", "ES256"),
        right.replace("\"format\"", "\"more\": 1, \"format\""),
        format!("{right}{}", " ".repeat(64 * 1024)),
        r#"{"format":1,"keys":[]}"#.to_owned(),
        String::new(),
    ] {
        fs::write(&index, &wrong).unwrap();
        assert_eq!(kind(), Err(ErrorKind::Corrupt), "{wrong}");
    }
    // Who has read it before goes on with what they have.
    fs::write(&index, &right).unwrap();
    let ring = open(folder.path(), NOW);
    let format = format(&ring, NOW);
    let token = token(&format, NOW);
    fs::write(&index, "{").unwrap();
    assert!(ring.refresh(at(NOW + 10)).is_err());
    assert!(format.verify(&token, at(NOW + 20), Ends::Checked).is_ok());
    assert!(ring.rotate(at(NOW), Rotation::Planned).is_err());
}

#[test]
fn a_half_written_change_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    let before = ring.entries(at(NOW));
    let keys = folder.path().join("keys");
    // What a process that was killed leaves behind: a new key that no index names, and files beside.
    let orphan = Jwk::generate(KeyType::Ed25519, Some(Algorithm::EdDsa)).unwrap();
    fs::write(keys.join(format!("{}.jwk", orphan.kid().unwrap())), orphan.to_json().as_bytes()).unwrap();
    for name in ["ring.new", "key.new"] {
        fs::write(keys.join(name), "{\"format\":1,\"ke").unwrap();
    }
    assert_eq!(open(folder.path(), NOW).entries(at(NOW)), before);
    ring.rotate(at(NOW), Rotation::Planned).unwrap();
    for name in ["ring.new", "key.new", &format!("{}.jwk", orphan.kid().unwrap())] {
        assert!(!keys.join(name).exists(), "{name}");
    }
}

#[test]
fn a_change_takes_the_place_of_the_old_state_in_one_step() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let ring = open(folder.path(), NOW);
    let index = folder.path().join("keys/ring.json");
    let inode = || fs::metadata(&index).unwrap().ino();
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for n in 0..50 {
                // Held open, so that its number is not given to the next file.
                let (held, before) = (fs::File::open(&index).unwrap(), inode());
                ring.rotate(at(NOW + n), Rotation::AtOnce).unwrap();
                assert_ne!(before, inode(), "another file, and not the same with other bytes");
                drop(held);
            }
        });
        while !changing.is_finished() {
            assert!(!open(folder.path(), NOW).entries(at(NOW + 100)).is_empty());
        }
    });
    assert_eq!(states(&ring, NOW + 100).len(), 51, "none has gone yet");
}

#[test]
fn a_key_from_configuration_never_changes() {
    let key = Jwk::generate(KeyType::Oct, None).unwrap();
    let ring = KeyRing::fixed(key, None).unwrap();
    assert_eq!(ring.entries(at(NOW))[0].algorithm, Algorithm::Hs256);
    assert!(!ring.due(at(NOW + 1000 * DAY)));
    assert_eq!(ring.rotate(at(NOW), Rotation::Planned).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(ring.jwks(at(NOW)), "{\"keys\":[]}");
    let key = Jwk::generate(KeyType::Ed25519, None).unwrap();
    assert_eq!(KeyRing::fixed(key.public().unwrap(), None).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(KeyRing::fixed(key, Some(Algorithm::Hs256)).unwrap_err().kind(), ErrorKind::Invalid);
}

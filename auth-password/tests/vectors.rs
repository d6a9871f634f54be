//! Hashes made by the original packages, whole and damaged.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, where a panic is how a test says what is wrong"
)]

use std::collections::{BTreeMap, BTreeSet};

use auth_core::ErrorKind;
use auth_password::{
    AcceptWeak, Limits, Outcome, Policy, Salts, Scheme, Strength, check_stored, identify, verify,
};
use proptest::prelude::*;
use serde_json::Value;

struct Vector {
    scheme: Scheme,
    hash: String,
    password: String,
    login: String,
    realm: String,
    unix_time: u64,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Unreadable,
}

impl Vector {
    fn salts(&self) -> Salts<'_> {
        Salts { login: &self.login, realm: &self.realm, unix_time: self.unix_time }
    }
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../integration-tests/data/passwords.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["vectors"].as_array().unwrap().iter().map(vector).collect()
}

fn vector(entry: &Value) -> Vector {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let scheme = text("scheme");
    let scheme = Scheme::from_name(&scheme).unwrap_or_else(|| panic!("no scheme {scheme}"));
    let totp = scheme == Scheme::Totp;
    Vector {
        scheme,
        hash: text(if totp { "secret_base32" } else { "hash" }),
        password: text(if totp { "code" } else { "password" }),
        login: text("user"),
        realm: text("realm"),
        unix_time: entry["unix_time"].as_u64().unwrap_or_default(),
        verdict: match &entry["verify"] {
            Value::Bool(true) => Verdict::Right,
            Value::Bool(false) => Verdict::Wrong,
            Value::String(text) if text == "exception" => Verdict::Unreadable,
            Value::Null if totp => Verdict::Right,
            other => panic!("a verdict of {other}"),
        },
    }
}

#[track_caller]
fn judge(policy: &Policy, vector: &Vector, scheme: Option<Scheme>, password: &str) -> Verdict {
    match verify(policy, &vector.hash, scheme, password.as_bytes(), &vector.salts()) {
        Ok(Outcome::Match { .. }) => Verdict::Right,
        Ok(Outcome::Mismatch) => Verdict::Wrong,
        Err(error) if error.kind() == ErrorKind::Corrupt => Verdict::Unreadable,
        Err(error) => panic!("{}: {error}", vector.scheme),
    }
}

#[test]
fn every_vector_is_judged_as_by_the_package_that_made_it() {
    let policy = Policy::accept_all();
    let vectors = vectors();
    let mut right = BTreeSet::new();
    for vector in &vectors {
        let verdict = judge(&policy, vector, Some(vector.scheme), &vector.password);
        assert_eq!(verdict, vector.verdict, "{} {}", vector.scheme, vector.hash);
        if verdict == Verdict::Right {
            right.insert(vector.scheme);
            assert_eq!(check_stored(&policy, &vector.hash, Some(vector.scheme)).unwrap(), vector.scheme);
            let other = judge(&policy, vector, Some(vector.scheme), "something else");
            assert_eq!(other, Verdict::Wrong, "{} {}", vector.scheme, vector.hash);
        }
    }
    assert_eq!(vectors.len(), 185);
    assert_eq!(right.into_iter().collect::<Vec<_>>(), sorted_schemes(), "each scheme has a right password");
}

fn sorted_schemes() -> Vec<Scheme> {
    Scheme::ALL.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn the_schemes_are_those_of_the_vectors() {
    let found: BTreeSet<&str> = vectors().iter().map(|vector| vector.scheme.name()).collect();
    let listed: BTreeSet<&str> = Scheme::NAMES.iter().copied().collect();
    assert_eq!(found, listed);
    assert_eq!(listed.len(), 43);
    assert_eq!(Scheme::NAMES.len(), Scheme::ALL.len());
    for (scheme, name) in Scheme::ALL.iter().zip(Scheme::NAMES) {
        assert_eq!((scheme.name(), Scheme::from_name(name)), (*name, Some(*scheme)));
    }
}

#[test]
fn a_hash_is_identified_exactly_where_it_names_its_scheme() {
    for vector in vectors().iter().filter(|vector| vector.verdict == Verdict::Right) {
        let expected = match vector.scheme {
            // These look like the formats they are.
            Scheme::FsaBcrypt => Some(Scheme::Bcrypt),
            Scheme::FsaArgon2 => Some(Scheme::Argon2),
            scheme => scheme.names_itself().then_some(scheme),
        };
        assert_eq!(identify(&vector.hash), expected, "{} {}", vector.scheme, vector.hash);
        if expected.is_some() {
            let verdict = judge(&Policy::accept_all(), vector, None, &vector.password);
            assert_eq!(verdict, Verdict::Right, "{}", vector.hash);
        }
    }
}

#[test]
fn a_hash_of_one_scheme_is_unreadable_as_another() {
    // One digest may be of several schemes, and clear text may be anything.
    let loose = |scheme: Scheme| !scheme.names_itself();
    let policy = Policy::accept_all();
    let first: BTreeMap<Scheme, Vector> = vectors()
        .into_iter()
        .filter(|vector| vector.verdict == Verdict::Right)
        .map(|vector| (vector.scheme, vector))
        .collect();
    for vector in first.values() {
        for other in Scheme::ALL.iter().copied().filter(|other| *other != vector.scheme && !loose(*other)) {
            if identify(&vector.hash) == Some(other) {
                continue;
            }
            let error = check_stored(&policy, &vector.hash, Some(other)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{} as {other}", vector.hash);
        }
    }
}

#[test]
fn unix_hashes_are_read_behind_the_prefix_of_directories() {
    let policy = Policy::accept_all();
    for scheme in [Scheme::Sha512Crypt, Scheme::Md5Crypt, Scheme::Bcrypt, Scheme::DesCrypt] {
        let vector =
            vectors().into_iter().find(|v| v.scheme == scheme && v.verdict == Verdict::Right).unwrap();
        let vector = Vector { hash: format!("{{crypt}}{}", vector.hash), ..vector };
        assert_eq!(judge(&policy, &vector, Some(scheme), &vector.password), Verdict::Right, "{scheme}");
    }
}

#[test]
fn codes_are_accepted_one_step_either_side() {
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let check = |unix_time: u64, step: Option<u64>| {
        let salts = Salts { unix_time, ..Salts::default() };
        let outcome = verify(&Policy::default(), secret, Some(Scheme::Totp), b"081804", &salts).unwrap();
        let found = match outcome {
            Outcome::Match { upgrade, step } => {
                assert!(!upgrade);
                step
            }
            Outcome::Mismatch => None,
        };
        assert_eq!(found, step, "{unix_time}");
    };
    // The code of 1,111,111,080 to 1,111,111,109.
    let step = 1_111_111_109 / 30;
    check(1_111_111_049, None);
    check(1_111_111_050, Some(step));
    check(1_111_111_109, Some(step));
    check(1_111_111_139, Some(step));
    check(1_111_111_140, None);
}

#[test]
fn weak_schemes_are_refused_unless_accepted_by_name() {
    for vector in vectors().iter().filter(|vector| vector.verdict == Verdict::Right) {
        let weak = vector.scheme.strength() == Strength::Weak;
        let check = |accept_weak: AcceptWeak, accepted: bool| {
            let policy = Policy { accept_weak, ..Policy::default() };
            match check_stored(&policy, &vector.hash, Some(vector.scheme)) {
                Ok(_) => assert!(accepted, "{}", vector.scheme),
                Err(error) => {
                    assert!(!accepted, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Misconfigured);
                    assert!(error.to_string().contains(vector.scheme.name()), "{error}");
                    assert!(error.to_string().contains("accept_weak"), "{error}");
                }
            }
        };
        check(AcceptWeak::None, !weak);
        check(AcceptWeak::All, true);
        check(AcceptWeak::Only([vector.scheme].into()), true);
        let others = Scheme::ALL.iter().copied().filter(|other| *other != vector.scheme).collect();
        check(AcceptWeak::Only(others), !weak);
    }
}

#[test]
fn a_hash_over_a_bound_is_refused_by_name_before_any_work() {
    let b64 = "rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
    let bcrypt = "$17$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";
    let long = |digit: &str, count: usize| digit.repeat(count);
    let huge = "99999999999999999999999999";
    let cases = [
        (format!("$argon2id$v=19$m=4194304,t=1,p=1${b64}"), "memory_kib"),
        (format!("$argon2id$v=19$m=65536,t=65,p=1${b64}"), "argon2_work_kib"),
        (format!("$argon2id$v=19$m=1024,t={huge},p=1${b64}"), "argon2_work_kib"),
        (format!("$argon2d$v=19$m={huge},t=1,p=4${b64}"), "memory_kib"),
        (format!("$2b{bcrypt}"), "bcrypt_cost"),
        (format!("$2y{}", bcrypt.replace("17", "31")), "bcrypt_cost"),
        (format!("$scrypt$ln=30,r=8,p=1${b64}"), "memory_kib"),
        (format!("$scrypt$ln={huge},r=8,p=1${b64}"), "memory_kib"),
        (format!("$scrypt$ln=14,r={huge},p=1${b64}"), "memory_kib"),
        (format!("$scrypt$ln=14,r=8,p=128${b64}"), "scrypt_work"),
        (format!("$pbkdf2-sha256$5000001${b64}"), "pbkdf2_rounds"),
        (format!("pbkdf2_sha256${huge}$salt$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc="), "pbkdf2_rounds"),
        (format!("grub.pbkdf2.sha512.5000001.00.{}", long("0", 128)), "pbkdf2_rounds"),
        (format!("$scram$5000001$AAAA$sha-1={}", long("A", 27)), "pbkdf2_rounds"),
        (format!("$6$rounds=999999999$salt${}", long(".", 86)), "crypt_rounds"),
        (format!("$5$rounds=1000001$salt${}", long(".", 43)), "crypt_rounds"),
        (format!("$sha1$4294967295$salt${}", long(".", 28)), "crypt_rounds"),
        (format!("$P$S12345678{}", long(".", 22)), "crypt_rounds"),
    ];
    let policy = Policy::accept_all();
    for (hash, setting) in cases {
        let error = verify(&policy, &hash, None, b"hobbes", &Salts::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{hash}: {error}");
        let scheme = identify(&hash).unwrap().name();
        let told = error.to_string();
        assert!(
            told.contains(scheme) && told.contains(&format!("password.limits.{setting}")),
            "{hash}: {told}"
        );
        assert_eq!(check_stored(&policy, &hash, None).unwrap_err().to_string(), told);
    }
}

#[test]
fn what_people_use_is_within_the_bounds() {
    let b64 = "rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
    let usual = [
        format!("$argon2id$v=19$m=65536,t=3,p=4${b64}"),
        format!("$argon2id$v=19$m=262144,t=4,p=8${b64}"),
        format!("$argon2i$m=4096,t=3,p=1${b64}"),
        format!("$scrypt$ln=17,r=8,p=1${b64}"),
        format!("$scrypt$ln=18,r=8,p=1${b64}"),
        format!("$pbkdf2-sha256$1200000${b64}"),
        "$2b$14$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe".to_owned(),
        format!("$6$rounds=656000$salt${}", ".".repeat(86)),
        format!("$6$salt${}", ".".repeat(86)),
    ];
    for hash in usual {
        assert!(check_stored(&Policy::default(), &hash, None).is_ok(), "{hash}");
    }
}

#[test]
fn damaged_hashes_are_unreadable_and_nothing_else() {
    let b64 = "rrWWEkLImVOKkfJey5kTAg$z+45JLjULabCvGo7XCVLBDCW7oLsol1xM+9gY9Jq3cc";
    let digits = |count: usize| ".".repeat(count);
    let damaged = [
        String::new(),
        "hobbes".to_owned(),
        "$".to_owned(),
        "$9$salt$digest".to_owned(),
        "{FROG}abc".to_owned(),
        "$2x$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe".to_owned(),
        "$2b$03$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe".to_owned(),
        "$2b$32$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe".to_owned(),
        "$2b$4$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe.".to_owned(),
        "$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4Hisg\u{e9}".to_owned(),
        format!("$argon2id$v=18$m=1024,t=1,p=1${b64}"),
        format!("$argon2id$v=19$m=7,t=1,p=1${b64}"),
        format!("$argon2id$v=19$m=1024,t=0,p=1${b64}"),
        format!("$argon2id$v=19$m=1024,t=1,p=0${b64}"),
        format!("$argon2id$v=19$m=1024,t=1,p=1,keyid=AA${b64}"),
        format!("$argon2id$v=19$m=1024,t=1,p=1${b64}$"),
        format!("$argon2id$v=19$m=1024,t=1,p=99999999999999999999${b64}"),
        format!("$scrypt$ln=0,r=8,p=1${b64}"),
        format!("$scrypt$ln=4,r=0,p=1${b64}"),
        format!("$pbkdf2-sha256$0${b64}"),
        format!("$pbkdf2-sha512$1000${b64}"),
        format!("$pbkdf2-sha256$+1000${b64}"),
        format!("$5$rounds=999$salt${}", digits(43)),
        format!("$5$rounds=1000$saltsaltsaltsalts${}", digits(43)),
        format!("$5$salt${}", digits(42)),
        format!("$6$s\u{e4}lt${}", digits(86)),
        format!("$1$saltsalts${}", digits(22)),
        format!("$P$412345678{}", digits(22)),
        "$scram$1000$AAAA$rot-13=AAAA".to_owned(),
        "$scram$1000$AAAA$sha-1=AAAA".to_owned(),
        "{SSHA}AAAA".to_owned(),
        "{SHA}wAowV+Ha74OuwmQ9OYf1kv17sd4A".to_owned(),
        "{SSHA}wAowV+Ha74OuwmQ9OYf1kv17sd4=".to_owned(),
        "x".repeat(5_000),
        format!("$argon2id$v=19$m=1024,t=1,p=1${}$AAAA", "A".repeat(5_000)),
    ];
    for hash in damaged {
        let error = verify(&Policy::accept_all(), &hash, None, b"hobbes", &Salts::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{hash}");
        if hash.len() > 5 {
            assert!(!error.to_string().contains(&hash), "an error tells a hash");
        }
    }
    let check = |scheme: Scheme, hash: &str| {
        let error = check_stored(&Policy::accept_all(), hash, Some(scheme)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{scheme} {hash}");
    };
    for scheme in Scheme::ALL {
        check(*scheme, "");
    }
    check(Scheme::LdapPlaintext, "{SSHA}iTs0/mFaoTOX49D/MYDfB0SSup5dyzmn");
    check(Scheme::HexMd5, "0eb55bec7f0e6d1c831bfbef77ac054");
    check(Scheme::HexMd5, "0eb55bec7f0e6d1c831bfbef77ac054g");
    check(Scheme::DesCrypt, "spcqg6l8w2Qv");
    check(Scheme::FsaA85, "~~~~");
    check(Scheme::FsaScrypt, "BQ%?hATI");
    check(Scheme::Totp, "018");
    check(Scheme::Mssql2005, "0x0100DBFB");
}

// Small bounds, so that a damaged cost is refused rather than paid.
fn frugal() -> Policy {
    let limits = Limits {
        memory_kib: 8 * 1024,
        argon2_work_kib: 8 * 1024,
        bcrypt_cost: 4,
        scrypt_work: 1 << 16,
        pbkdf2_rounds: 2_000,
        crypt_rounds: 10_000,
    };
    Policy { limits, ..Policy::accept_all() }
}

fn must_not_panic(hash: &str, scheme: Scheme, work: bool) {
    let policy = frugal();
    for scheme in [Some(scheme), None] {
        let error = if work {
            verify(&policy, hash, scheme, b"hobbes", &Salts::default()).err()
        } else {
            check_stored(&policy, hash, scheme).err()
        };
        if let Some(error) = error {
            let clean = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Misconfigured);
            assert!(clean, "{scheme:?} {hash}: {error}");
        }
    }
}

#[test]
fn a_hash_damaged_anywhere_never_panics() {
    let examples: BTreeMap<Scheme, String> =
        vectors().into_iter().map(|vector| (vector.scheme, vector.hash)).collect();
    for (scheme, hash) in examples.into_iter().filter(|(_, hash)| !hash.is_empty()) {
        let chars: Vec<char> = hash.chars().collect();
        for at in 0..chars.len() {
            let (head, tail) =
                (chars[..at].iter().collect::<String>(), chars[at + 1..].iter().collect::<String>());
            must_not_panic(&head, scheme, true);
            for (n, other) in ['0', '9', 'z', '$', ',', '=', '!', ' ', '\0', '\u{e9}'].into_iter().enumerate()
            {
                // Work is done on a few; all are read.
                let work = (at + n) % 11 == 0 && scheme != Scheme::FsaScrypt;
                must_not_panic(&format!("{head}{other}{tail}"), scheme, work);
                must_not_panic(&format!("{head}{other}{}{tail}", chars[at]), scheme, false);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_at_worst_unreadable(
        which in 0..Scheme::ALL.len(),
        head in "(\\$|\\{|grub\\.|0x|md5|\\*)?[a-zA-Z0-9-]{0,12}(\\$|\\})?",
        tail in "[ -~\u{e9}\0]{0,80}",
        password in proptest::collection::vec(1_u8.., 1..100),
    ) {
        let hash = format!("{head}{tail}");
        let salts = Salts { login: "calvin", realm: "acme", unix_time: u64::MAX };
        for scheme in [Some(Scheme::ALL[which]), None] {
            if let Err(error) = verify(&frugal(), &hash, scheme, &password, &salts) {
                prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Misconfigured));
            }
        }
    }
}

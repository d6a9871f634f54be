//! The vectors of Wycheproof, through the import of keys and the check of signatures.
//!
//! What it calls acceptable may be taken or refused: how much of it is taken is counted too, so that a change shows.

use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};

use super::{Algorithm, Jwk, Short, base64};

/// One vector: its number, whether it is good, the message, the signature.
type Vector<'a> = (usize, TestResult, &'a [u8], &'a [u8]);

/// How many vectors there were of each kind, and how many of those that may be taken were.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    valid: usize,
    invalid: usize,
    acceptable: usize,
    taken: usize,
}

impl Tally {
    const fn of(valid: usize, invalid: usize) -> Self {
        Self { valid, invalid, acceptable: 0, taken: 0 }
    }

    /// Asks about each vector of a key.
    fn check<'a>(
        &mut self,
        set: &str,
        key: &Value,
        algorithm: Algorithm,
        vectors: impl IntoIterator<Item = Vector<'a>>,
    ) {
        let key = Jwk::parse(&key.to_string(), Short::Accepted);
        let verifying = key.as_ref().ok().and_then(|key| key.verifying(algorithm));
        for (id, expected, message, signature) in vectors {
            let taken = verifying.as_ref().is_some_and(|key| key.verify(message, signature));
            match expected {
                TestResult::Valid => {
                    assert!(taken, "{set} {id} is good: {:?}", key.as_ref().err());
                    self.valid += 1;
                }
                TestResult::Invalid => {
                    assert!(!taken, "{set} {id} is not good");
                    self.invalid += 1;
                }
                TestResult::Acceptable => {
                    self.acceptable += 1;
                    self.taken += usize::from(taken);
                }
            }
        }
    }
}

/// A number without the zeros in front.
fn number(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    base64(&bytes[zeros..])
}

/// A number as long as a coordinate is.
fn coordinate(bytes: &[u8], length: usize) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut coordinate = vec![0; length - (bytes.len() - zeros)];
    coordinate.extend_from_slice(&bytes[zeros..]);
    base64(&coordinate)
}

#[test]
fn ecdsa_takes_what_is_good_and_nothing_else() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363, EcdsaSecp521r1Sha512P1363};
    for (name, algorithm, curve, length, expected) in [
        (EcdsaSecp256r1Sha256P1363, Algorithm::Es256, "P-256", 32, Tally::of(173, 89)),
        (EcdsaSecp384r1Sha384P1363, Algorithm::Es384, "P-384", 48, Tally::of(193, 87)),
        (EcdsaSecp521r1Sha512P1363, Algorithm::Es512, "P-521", 66, Tally::of(231, 87)),
    ] {
        let mut tally = Tally::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let (x, y) = group.key.key[1..].split_at(length);
            let key = json!({ "kty": "EC", "crv": curve, "x": base64(x), "y": base64(y) });
            assert_eq!(coordinate(&group.key.affine_x, length), base64(x));
            let tests = group.tests.iter().map(|test| (test.tc_id, test.result, &**test.msg, &**test.sig));
            tally.check(curve, &key, algorithm, tests);
        }
        assert_eq!(tally, expected, "{curve}");
    }
}

#[test]
fn ed25519_takes_what_is_good_and_nothing_else() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64(&group.key.pk) });
        let tests = group.tests.iter().map(|test| (test.tc_id, test.result, &**test.msg, &**test.sig));
        tally.check("Ed25519", &key, Algorithm::EdDsa, tests);
    }
    assert_eq!(tally, Tally::of(88, 63));
}

#[test]
fn rsa_takes_what_is_good_and_nothing_else() {
    use rsa_pkcs1_verify::TestName::{
        Rsa2048Sha256, Rsa2048Sha384, Rsa2048Sha512, Rsa3072Sha256, Rsa3072Sha384, Rsa3072Sha512,
        Rsa4096Sha256, Rsa4096Sha384, Rsa4096Sha512, Rsa8192Sha256, Rsa8192Sha384, Rsa8192Sha512,
    };
    for (algorithm, names, expected) in [
        (Algorithm::Rs256, [Rsa2048Sha256, Rsa3072Sha256, Rsa4096Sha256, Rsa8192Sha256], Tally::of(31, 999)),
        (
            Algorithm::Rs384,
            [Rsa2048Sha384, Rsa3072Sha384, Rsa4096Sha384, Rsa8192Sha384],
            Tally::of(28, 1_003),
        ),
        (
            Algorithm::Rs512,
            [Rsa2048Sha512, Rsa3072Sha512, Rsa4096Sha512, Rsa8192Sha512],
            Tally::of(30, 1_003),
        ),
    ] {
        let mut tally = Tally::default();
        for name in names {
            for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
                let key = json!({ "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
                let tests =
                    group.tests.iter().map(|test| (test.tc_id, test.result, &**test.msg, &**test.sig));
                tally.check(&format!("{name:?}"), &key, algorithm, tests);
            }
        }
        // The identifier of the hash without its NULL: of an old time, and refused.
        assert_eq!(tally, Tally { acceptable: 4, ..expected }, "{algorithm:?}");
    }
}

/// What is good with another salt or another hash for the mask is bad for a JWS.
#[test]
fn pss_takes_what_is_good_and_nothing_else() {
    use rsa_pss_verify::TestName::{
        RsaPss2048Sha256Mgf1SaltLen0, RsaPss2048Sha256Mgf1SaltLen32, RsaPss2048Sha256Mgf1Sha1_20,
        RsaPss2048Sha384Mgf1SaltLen48, RsaPss3072Sha256Mgf1SaltLen32, RsaPss4096Sha256Mgf1SaltLen32,
        RsaPss4096Sha384Mgf1SaltLen48, RsaPss4096Sha512Mgf1SaltLen32, RsaPss4096Sha512Mgf1SaltLen64,
    };
    let ours: [(_, &[_], &[_], _); 3] = [
        (
            Algorithm::Ps256,
            &[RsaPss2048Sha256Mgf1SaltLen32, RsaPss3072Sha256Mgf1SaltLen32, RsaPss4096Sha256Mgf1SaltLen32],
            &[RsaPss2048Sha256Mgf1SaltLen0, RsaPss2048Sha256Mgf1Sha1_20],
            Tally::of(189, 259),
        ),
        (
            Algorithm::Ps384,
            &[RsaPss2048Sha384Mgf1SaltLen48, RsaPss4096Sha384Mgf1SaltLen48],
            &[],
            Tally::of(190, 92),
        ),
        (
            Algorithm::Ps512,
            &[RsaPss4096Sha512Mgf1SaltLen64],
            &[RsaPss4096Sha512Mgf1SaltLen32],
            Tally::of(132, 179),
        ),
    ];
    for (algorithm, good, others, expected) in ours {
        let mut tally = Tally::default();
        for (names, other) in [(good, false), (others, true)] {
            for name in names {
                for group in rsa_pss_verify::TestSet::load(*name).unwrap().test_groups {
                    let key = json!({ "kty": "RSA", "n": number(&group.key.n), "e": number(&group.key.e) });
                    // What is bad there may be good here: it has our salt.
                    let tests = group.tests.iter().filter(|test| !other || test.result == TestResult::Valid);
                    let tests = tests.map(|test| {
                        let expected = if other { TestResult::Invalid } else { test.result };
                        (test.tc_id, expected, &**test.msg, &**test.sig)
                    });
                    tally.check(&format!("{name:?}"), &key, algorithm, tests);
                }
            }
        }
        assert_eq!(tally, expected, "{algorithm:?}");
    }
}

/// Of HMAC, tags that were cut short are all bad for a JWS.
#[test]
fn hmac_takes_what_is_good_and_whole_and_nothing_else() {
    use mac::TestName::{HmacSha256, HmacSha384, HmacSha512};
    for (name, algorithm, bits, expected) in [
        (HmacSha256, Algorithm::Hs256, 256, Tally::of(33, 141)),
        (HmacSha384, Algorithm::Hs384, 384, Tally::of(33, 141)),
        (HmacSha512, Algorithm::Hs512, 512, Tally::of(33, 141)),
    ] {
        let mut tally = Tally::default();
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in &group.tests {
                let key = json!({ "kty": "oct", "k": base64(&test.key) });
                let whole = group.tag_size == bits;
                let expected = if whole { test.result } else { TestResult::Invalid };
                tally.check(
                    &format!("{name:?}"),
                    &key,
                    algorithm,
                    [(test.tc_id, expected, &**test.msg, &**test.tag)],
                );
            }
        }
        assert_eq!(tally, expected, "{algorithm:?}");
    }
}

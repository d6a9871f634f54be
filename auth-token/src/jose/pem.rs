//! Keys in PEM and DER: only as much as it takes to get at their numbers.

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyType;
use super::jwk::{Material, RsaPart, RsaPrivate};

const INTEGER: u8 = 2;
const BITS: u8 = 3;
const OCTETS: u8 = 4;
const OID: u8 = 6;
const SEQUENCE: u8 = 0x30;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const CURVES: [(KeyType, &[u8]); 3] = [
    (KeyType::P256, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
    (KeyType::P384, &[0x2b, 0x81, 0x04, 0x00, 0x22]),
    (KeyType::P521, &[0x2b, 0x81, 0x04, 0x00, 0x23]),
];

/// The label and the bytes of a text with one block of PEM.
pub(super) fn decode(text: &str) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let (label, rest) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
    let body = rest.strip_suffix(&format!("-----END {label}-----"))?;
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    Some((label.to_owned(), Zeroizing::new(STANDARD.decode(&*body).ok()?)))
}

/// The numbers of a key.
pub(super) fn material(label: &str, der: &[u8]) -> Option<Material> {
    match label {
        "PUBLIC KEY" => of_spki(der),
        "RSA PUBLIC KEY" => of_rsa_public(der),
        "RSA PRIVATE KEY" => rsa_of_pkcs8(RsaKeyPair::from_der(der).ok()?.as_der().ok()?.as_ref()),
        "PRIVATE KEY" => {
            let (kind, curve) =
                algorithm(element(element(element(der, SEQUENCE)?.0, INTEGER)?.1, SEQUENCE)?.0)?;
            match (kind, curve) {
                (RSA, _) => rsa_of_pkcs8(RsaKeyPair::from_pkcs8(der).ok()?.as_der().ok()?.as_ref()),
                (ED25519, None) => {
                    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
                    let seed = pair.seed().ok()?.as_be_bytes().ok()?;
                    let d = Some(Zeroizing::new(seed.as_ref().to_vec()));
                    Some(Material::Okp { x: pair.public_key().as_ref().to_vec(), d })
                }
                (EC, Some(curve)) => {
                    of_ec(curve, &EcdsaKeyPair::from_pkcs8(curve.algorithm().ecdsa()?.1, der).ok()?)
                }
                _ => None,
            }
        }
        "EC PRIVATE KEY" => CURVES.into_iter().find_map(|(curve, _)| {
            of_ec(curve, &EcdsaKeyPair::from_private_key_der(curve.algorithm().ecdsa()?.1, der).ok()?)
        }),
        _ => None,
    }
}

/// The kind of key and its curve, of an algorithm's identifier.
fn algorithm(identifier: &[u8]) -> Option<(&[u8], Option<KeyType>)> {
    let (kind, rest) = element(identifier, OID)?;
    let named = element(rest, OID).map(|(curve, _)| curve);
    let curve = CURVES.into_iter().find(|(_, own)| Some(*own) == named).map(|(curve, _)| curve);
    Some((kind, curve))
}

fn of_spki(der: &[u8]) -> Option<Material> {
    let (identifier, rest) = element(element(der, SEQUENCE)?.0, SEQUENCE)?;
    let (kind, curve) = algorithm(identifier)?;
    let key = element(rest, BITS)?.0.strip_prefix(&[0])?;
    match (kind, curve) {
        (RSA, _) => of_rsa_public(key),
        (ED25519, None) => Some(Material::Okp { x: key.to_vec(), d: None }),
        (EC, Some(curve)) => {
            let (x, y) = halves(curve, key)?;
            Some(Material::Ec { curve, x, y, d: None })
        }
        _ => None,
    }
}

fn of_rsa_public(der: &[u8]) -> Option<Material> {
    let (n, rest) = number(element(der, SEQUENCE)?.0)?;
    let (e, _) = number(rest)?;
    Some(Material::Rsa { n: n.to_vec(), e: e.to_vec(), private: RsaPart::Public })
}

/// The numbers of a pair on a curve.
pub(super) fn of_ec(curve: KeyType, pair: &EcdsaKeyPair) -> Option<Material> {
    let (x, y) = halves(curve, pair.public_key().as_ref())?;
    let d = Zeroizing::new(pair.private_key().as_be_bytes().ok()?.as_ref().to_vec());
    Some(Material::Ec { curve, x, y, d: Some(d) })
}

/// The coordinates of a point that is not compressed.
fn halves(curve: KeyType, point: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let both = point.strip_prefix(&[4]).filter(|both| both.len() == 2 * curve.field_bytes())?;
    let (x, y) = both.split_at_checked(curve.field_bytes())?;
    Some((x.to_vec(), y.to_vec()))
}

/// The numbers of an RSA key in PKCS#8, as the library writes it.
pub(super) fn rsa_of_pkcs8(pkcs8: &[u8]) -> Option<Material> {
    let (_version, rest) = element(element(pkcs8, SEQUENCE)?.0, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (inner, _) = element(rest, OCTETS)?;
    let (_version, mut rest) = element(element(inner, SEQUENCE)?.0, INTEGER)?;
    let mut next = || {
        let (own, behind) = number(rest)?;
        rest = behind;
        Some(Zeroizing::new(own.to_vec()))
    };
    let (n, e) = (next()?.to_vec(), next()?.to_vec());
    let private = RsaPrivate { d: next()?, p: next()?, q: next()?, dp: next()?, dq: next()?, qi: next()? };
    Some(Material::Rsa { n, e, private: RsaPart::Private(Box::new(private)) })
}

/// A number, without the zero in front that tells that it is not negative; and what is behind it.
fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (number, rest) = element(bytes, INTEGER)?;
    Some((number.strip_prefix(&[0]).unwrap_or(number), rest))
}

/// One element: what is in it, and what is behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[own, first], rest) = bytes.split_first_chunk::<2>()?;
    if own != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=127 => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

//! The alphabets of stored hashes. Each decoder returns nothing for what it can't read.

use base64::Engine;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

// Old writers left spare bits in the last digit and disagree about padding. The digest that
// comes out is compared whole, so reading both does no harm.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

const fn lenient(alphabet: &Alphabet) -> GeneralPurpose {
    GeneralPurpose::new(alphabet, LENIENT)
}

/// Decodes base64, padded or not.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    lenient(&alphabet::STANDARD).decode(text).ok()
}

/// Decodes bcrypt's base64 of exactly `N` bytes.
pub(crate) fn bcrypt64<const N: usize>(text: &str) -> Option<[u8; N]> {
    lenient(&alphabet::BCRYPT).decode(text).ok()?.try_into().ok()
}

/// Decodes passlib's base64, which has a dot for the plus.
pub(crate) fn dotted64(text: &str) -> Option<Vec<u8>> {
    base64(&text.replace('.', "+"))
}

/// Encodes without padding, for the PHC format.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

/// Encodes with bcrypt's alphabet.
pub(crate) fn to_bcrypt64(bytes: &[u8]) -> String {
    bcrypt::BASE_64.encode(bytes)
}

/// Encodes with padding, as the input of passlib's bcrypt over SHA-256.
pub(crate) fn to_padded64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Decodes hex of any case.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

/// Encodes as lower-case hex.
pub(crate) fn to_hex(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(data_encoding::HEXLOWER.encode(bytes))
}

/// Decodes the base32 of a one-time code's secret, which people type with blanks and in any case.
pub(crate) fn base32(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let compact: String =
        text.chars().filter(|c| !matches!(c, ' ' | '-' | '=')).map(|c| c.to_ascii_uppercase()).collect();
    let compact = Zeroizing::new(compact);
    let mut rules = data_encoding::BASE32_NOPAD.specification();
    rules.check_trailing_bits = false;
    rules.encoding().ok()?.decode(compact.as_bytes()).ok().map(Zeroizing::new)
}

const CRYPT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Reports whether all of the text is in the alphabet of Unix crypt.
pub(crate) fn is_crypt64(text: &str) -> bool {
    text.bytes().all(|byte| CRYPT.contains(&byte))
}

/// Returns the value of a digit of Unix crypt.
pub(crate) fn crypt64_digit(digit: u8) -> Option<usize> {
    CRYPT.iter().position(|symbol| *symbol == digit)
}

/// Encodes as Unix crypt does: least significant bits first.
pub(crate) fn to_crypt64(bytes: impl IntoIterator<Item = u8>) -> String {
    let (mut text, mut bits, mut held) = (String::new(), 0_u32, 0_u32);
    let digit = |bits: u32| CRYPT.get((bits & 63) as usize).map_or('.', |symbol| char::from(*symbol));
    for byte in bytes {
        bits |= u32::from(byte) << held;
        held += 8;
        while held >= 6 {
            text.push(digit(bits));
            bits >>= 6;
            held -= 6;
        }
    }
    if held > 0 {
        text.push(digit(bits));
    }
    text
}

/// Decodes Python's `base64.a85encode`.
pub(crate) fn ascii85(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut value, mut count) = (0_u32, 0_usize);
    for digit in text.bytes() {
        match digit {
            b'z' if count == 0 => bytes.extend([0; 4]),
            b'!'..=b'u' => {
                value = value.checked_mul(85)?.checked_add(u32::from(digit - b'!'))?;
                count += 1;
                if count == 5 {
                    bytes.extend(value.to_be_bytes());
                    (value, count) = (0, 0);
                }
            }
            _ => return None,
        }
    }
    match count {
        0 => {}
        1 => return None,
        _ => {
            for _ in count..5 {
                value = value.checked_mul(85)?.checked_add(84)?;
            }
            bytes.extend(value.to_be_bytes().into_iter().take(count - 1));
        }
    }
    Some(bytes)
}

/// Reads a decimal number without sign or leading zero. What is too large reads as the largest
/// number, which is over every bound.
pub(crate) fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u64::MAX))
}

/// Reads `key=number`.
pub(crate) fn setting(text: &str, key: &str) -> Option<u64> {
    number(text.strip_prefix(key)?.strip_prefix('=')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crypt64_puts_the_least_significant_bits_first() {
        assert_eq!(to_crypt64([1, 0, 0]), "/...");
        assert_eq!(to_crypt64([0xff]), "z1");
        assert_eq!(crypt64_digit(b'z'), Some(63));
        assert_eq!(crypt64_digit(b'-'), None);
    }

    #[test]
    fn ascii85_reads_what_python_writes() {
        let check = |text: &str, bytes: Option<&[u8]>| {
            assert_eq!(ascii85(text).as_ref().map(|found| found.as_slice()), bytes, "{text}");
        };
        check("BQ%?hATI", Some(b"hobbes"));
        check("z", Some(&[0; 4]));
        check("", Some(b""));
        check("!", None);
        check("!z", None);
        check("uuuuu", None);
        check("s8W-!", Some(&[255; 4]));
        check("a b", None);
    }

    #[test]
    fn numbers_are_plain_and_never_wrap() {
        let check = |text: &str, value: Option<u64>| assert_eq!(number(text), value, "{text}");
        check("12", Some(12));
        check("0", Some(0));
        check("99999999999999999999999", Some(u64::MAX));
        for bad in ["", "+1", "-1", "01", " 1", "1e3", "\u{661}"] {
            check(bad, None);
        }
    }

    #[test]
    fn base32_forgives_what_people_type() {
        let secret = base32("gezd gnbv-GY3T QOJQ====").unwrap();
        assert_eq!(secret.as_slice(), b"1234567890");
        assert!(base32("018").is_none());
    }
}

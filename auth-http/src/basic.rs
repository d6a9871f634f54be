//! HTTP Basic (RFC 7617): what a request presents, and what a refusal asks for.

use std::fmt;

use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::reply::push_escaped;

/// What a request presented: a login as it was typed, and a password. Prints nothing of either.
pub struct Credentials {
    login: String,
    password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// Returns the login as it was typed: UTF-8, and nothing else is known of it.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Takes login and password apart, for [`Realm::attempt`](auth_core::Realm::attempt), which wipes the
    /// password.
    #[must_use]
    pub fn into_parts(mut self) -> (String, Vec<u8>) {
        (self.login, std::mem::take(&mut *self.password))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Why a request presents nothing that could be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unusable {
    /// There is no `Authorization` header.
    Missing,
    /// There is more than one, so that two readers could see two people.
    Repeated,
    /// It is longer than the limit.
    TooLong,
    /// It is of another scheme.
    NotBasic,
    /// It is not the base64 of a login in UTF-8, a colon and a password.
    Malformed,
}

impl Unusable {
    /// Names the reason in the form used by metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no_credentials",
            Self::Repeated => "repeated_credentials",
            Self::TooLong => "long_credentials",
            Self::NotBasic => "not_basic",
            Self::Malformed => "malformed_credentials",
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Unusable {}

/// Reads the credentials of a request, from an `Authorization` header of at most `max_bytes`.
///
/// The scheme's name is read in any case, base64 strictly. The login ends at the first colon and is UTF-8;
/// the password is the rest, byte for byte. Both may still be impossible (empty, with control characters):
/// that is for the realm to refuse, at the cost of any other refusal.
///
/// ```
/// use auth_http::{MAX_HEADER_BYTES, Unusable, basic_credentials};
/// use axum::http::HeaderMap;
/// let mut headers = HeaderMap::new();
/// assert_eq!(basic_credentials(&headers, MAX_HEADER_BYTES).unwrap_err(), Unusable::Missing);
/// headers.insert("authorization", "Basic Y2FsdmluOmhvYmJlcw==".parse()?);
/// let (login, password) = basic_credentials(&headers, MAX_HEADER_BYTES)?.into_parts();
/// assert_eq!((login.as_str(), password.as_slice()), ("calvin", &b"hobbes"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Unusable`]: there is nothing that could be tried. Answer 401 with a [`challenge`].
pub fn basic_credentials(headers: &HeaderMap, max_bytes: usize) -> Result<Credentials, Unusable> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Unusable::Missing)?.as_bytes();
    if values.next().is_some() {
        return Err(Unusable::Repeated);
    }
    if value.len() > max_bytes {
        return Err(Unusable::TooLong);
    }
    let Some((scheme, rest)) = value.split_at_checked(5) else { return Err(Unusable::NotBasic) };
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.first().is_some_and(|byte| *byte != b' ') {
        return Err(Unusable::NotBasic);
    }
    // Wiped on every way out. `decode_vec` reserves once, so no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::new());
    STANDARD.decode_vec(rest.trim_ascii(), &mut bytes).map_err(|_| Unusable::Malformed)?;
    let colon = bytes.iter().position(|byte| *byte == b':').ok_or(Unusable::Malformed)?;
    let (login, _) = bytes.split_at_checked(colon).ok_or(Unusable::Malformed)?;
    let login = std::str::from_utf8(login).map_err(|_| Unusable::Malformed)?.to_owned();
    // The password moves to the front of the buffer that it was decoded into.
    bytes.drain(..=colon);
    Ok(Credentials { login, password: bytes })
}

/// Makes the `WWW-Authenticate` value that asks for credentials of a realm.
///
/// ```
/// let value = auth_http::challenge("the \"big\" one");
/// assert_eq!(value, r#"Basic realm="the \"big\" one", charset="UTF-8""#);
/// ```
#[must_use]
pub fn challenge(realm: &str) -> HeaderValue {
    let mut value = String::with_capacity(32 + realm.len());
    value.push_str("Basic realm=\"");
    push_quoted(&mut value, realm);
    value.push_str("\", charset=\"UTF-8\"");
    // What was pushed is printable ASCII; a challenge without the name is still one.
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Basic realm=\"\", charset=\"UTF-8\""))
}

/// Appends a text as it stands between the quotes of a parameter: printable ASCII, the rest percent-encoded.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    for part in text.split_inclusive(['"', '\\']) {
        match part.strip_suffix(['"', '\\']) {
            Some(before) => {
                push_escaped(out, before, |byte| matches!(byte, 0x20..0x7f));
                out.push('\\');
                out.push_str(part.get(before.len()..).unwrap_or_default());
            }
            None => push_escaped(out, part, |byte| matches!(byte, 0x20..0x7f)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_HEADER_BYTES;
    use proptest::prelude::*;

    fn read(values: &[&[u8]]) -> Result<(String, Vec<u8>), Unusable> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        basic_credentials(&headers, MAX_HEADER_BYTES).map(Credentials::into_parts)
    }

    fn check(value: &str, expected: Result<(&str, &[u8]), Unusable>) {
        let expected = expected.map(|(login, password)| (login.to_owned(), password.to_vec()));
        assert_eq!(read(&[value.as_bytes()]), expected, "{value}");
    }

    #[test]
    fn credentials_are_read_as_rfc_7617_writes_them() {
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Ok(("Aladdin", b"open sesame")));
        check("Basic dGVzdDoxMjPCow==", Ok(("test", "123\u{a3}".as_bytes())));
        check("bASIC YTpi", Ok(("a", b"b")));
        check("Basic   YTpi ", Ok(("a", b"b")));
        check("Basic YTpiOmM=", Ok(("a", b"b:c")));
        check("Basic YTo=", Ok(("a", b"")));
        check("Basic OmI=", Ok(("", b"b")));
        check("Basic Og==", Ok(("", b"")));
        check("Basic YTr/AP4=", Ok(("a", b"\xff\0\xfe")));
    }

    #[test]
    fn what_is_not_basic_is_told_apart_from_what_is_malformed() {
        for other in ["", "Bas", "Bearer YTpi", "Basically YTpi", "Basic\tYTpi", "BasicYTpi"] {
            check(other, Err(Unusable::NotBasic));
        }
        let malformed = [
            "Basic",
            "Basic ",
            "Basic YWI=",
            "Basic YTo",
            "Basic YTpi=",
            "Basic Y!pi",
            "Basic YT pi",
            "Basic YTpi YTpi",
            "Basic YTp-",
            "Basic YTp_",
            "Basic OmJ=",
            "Basic /zpi",
            "Basic YTpi,YTpi",
        ];
        for value in malformed {
            check(value, Err(Unusable::Malformed));
        }
    }

    #[test]
    fn two_headers_are_nobody_even_if_they_are_the_same() {
        assert_eq!(read(&[]), Err(Unusable::Missing));
        assert_eq!(read(&[b"Basic YTpi", b"Basic YTpi"]), Err(Unusable::Repeated));
        assert_eq!(read(&[b"Basic YTpi", b"Bearer x"]), Err(Unusable::Repeated));
        assert_eq!(read(&[b"Basic YTpi", b""]), Err(Unusable::Repeated));
    }

    #[test]
    fn a_header_is_read_up_to_the_limit_and_no_further() {
        let at = |len: usize| [&b"Basic "[..], &vec![b'A'; len - 6]].concat();
        assert_eq!(read(&[&at(MAX_HEADER_BYTES)]), Err(Unusable::Malformed));
        assert_eq!(read(&[&at(MAX_HEADER_BYTES + 1)]), Err(Unusable::TooLong));
    }

    #[test]
    fn the_longest_login_and_password_fit_the_limit() {
        let longest = auth_core::MAX_LOGIN_BYTES + 1 + auth_core::MAX_PASSWORD_BYTES;
        assert!(longest.div_ceil(3) * 4 + 6 < MAX_HEADER_BYTES);
    }

    #[test]
    fn nothing_of_the_credentials_is_printed() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic Y2FsdmluOmhvYmJlcw=="));
        let shown = format!("{:?}", basic_credentials(&headers, 64).unwrap());
        assert_eq!(shown, "Credentials(..)");
    }

    #[test]
    fn a_challenge_quotes_the_name_of_the_realm() {
        assert_eq!(challenge("default"), "Basic realm=\"default\", charset=\"UTF-8\"");
        assert_eq!(challenge(r#"a\b"c""#), r#"Basic realm="a\\b\"c\"", charset="UTF-8""#);
        assert_eq!(challenge("caf\u{e9}\r\n"), "Basic realm=\"caf%C3%A9%0D%0A\", charset=\"UTF-8\"");
    }

    proptest! {
        #[test]
        fn no_header_panics(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..3),
            max in 0_usize..64,
        ) {
            let mut headers = HeaderMap::new();
            for value in values {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(AUTHORIZATION, value);
                }
            }
            let read = basic_credentials(&headers, max);
            prop_assert!(read.is_err() || headers.len() == 1);
        }

        #[test]
        fn no_base64_of_anything_panics_or_is_read_wrongly(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let value = [b"Basic ", STANDARD.encode(&bytes).as_bytes()].concat();
            match read(&[&value]) {
                Ok((login, password)) => {
                    prop_assert_eq!([login.as_bytes(), b":", &password].concat(), bytes);
                    prop_assert!(!login.contains(':'));
                }
                Err(reason) => {
                    prop_assert_eq!(reason, Unusable::Malformed);
                    let login = bytes.split(|byte| *byte == b':').next().unwrap();
                    prop_assert!(!bytes.contains(&b':') || std::str::from_utf8(login).is_err());
                }
            }
        }

        #[test]
        fn a_challenge_is_one_quoted_string(name in ".*") {
            let value = challenge(&name);
            let text = value.to_str().unwrap();
            let inner = text.strip_prefix("Basic realm=\"").unwrap();
            let inner = inner.strip_suffix("\", charset=\"UTF-8\"").unwrap();
            let mut escaped = false;
            for c in inner.chars() {
                prop_assert!(escaped || c != '"');
                escaped = !escaped && c == '\\';
            }
            prop_assert!(!escaped);
        }
    }
}

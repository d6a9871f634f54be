//! Bearer tokens (RFC 6750): what a request presents, and what a refusal asks for.

use std::fmt;

use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::basic::push_quoted;

/// Why a request presents no token that could be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unbearable {
    /// There is no `Authorization` header.
    Missing,
    /// It is of another scheme.
    OtherScheme,
    /// There is more than one, so that two readers could see two people.
    Repeated,
    /// It is not the scheme, blanks and one token.
    Malformed,
    /// It is longer than the limit.
    TooLong,
    /// It is of the scheme `DPoP`, without the proof that this demands.
    Unproven,
}

impl Unbearable {
    /// Names the reason in the form used by metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::OtherScheme => "not_bearer",
            Self::Repeated => "repeated_credentials",
            Self::Malformed => "malformed_header",
            Self::TooLong => "long_token",
            Self::Unproven => "no_dpop_proof",
        }
    }

    /// Reports whether the request has shown no token at all, so that it may be one without.
    #[must_use]
    pub const fn is_absence(self) -> bool {
        matches!(self, Self::Missing | Self::OtherScheme)
    }
}

impl fmt::Display for Unbearable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Unbearable {}

/// Reads the token of a request, from an `Authorization` header of at most `max_bytes`. Nothing else is looked at: no
/// query, no body.
///
/// The scheme's name is read in any case. One or more blanks and a `token68` (RFC 9110, 11.2) follow, and nothing else.
///
/// ```
/// use auth_http::{MAX_HEADER_BYTES, Unbearable, bearer_token};
/// use axum::http::HeaderMap;
/// let mut headers = HeaderMap::new();
/// assert_eq!(bearer_token(&headers, MAX_HEADER_BYTES), Err(Unbearable::Missing));
/// headers.insert("authorization", "Bearer mF_9.B5f-4.1JqM".parse()?);
/// assert_eq!(bearer_token(&headers, MAX_HEADER_BYTES), Ok("mF_9.B5f-4.1JqM"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Unbearable`]: there is nothing that could be checked.
pub fn bearer_token(headers: &HeaderMap, max_bytes: usize) -> Result<&str, Unbearable> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Unbearable::Missing)?.as_bytes();
    if values.next().is_some() {
        return Err(Unbearable::Repeated);
    }
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at_checked(end).unwrap_or((value, &[]));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        let proven = scheme.eq_ignore_ascii_case(b"dpop");
        return Err(if proven { Unbearable::Unproven } else { Unbearable::OtherScheme });
    }
    if value.len() > max_bytes {
        return Err(Unbearable::TooLong);
    }
    // Blanks alone, not tabs; those at the end a server takes off.
    let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = rest.get(blanks..).unwrap_or_default();
    if !is_token68(token) {
        return Err(Unbearable::Malformed);
    }
    std::str::from_utf8(token).map_err(|_| Unbearable::Malformed)
}

fn is_token68(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (body, _) = text.split_at_checked(text.len() - padding).unwrap_or((text, &[]));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !body.is_empty() && body.iter().all(plain)
}

/// What a challenge says is wrong (RFC 6750, 3.1). Nothing, if no token was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    Absent,
    Request,
    Token,
    /// The scopes that are needed, joined by blanks.
    Scope(Box<str>),
    Proof,
}

impl From<Unbearable> for Wrong {
    fn from(reason: Unbearable) -> Self {
        match reason {
            Unbearable::Missing | Unbearable::OtherScheme => Self::Absent,
            Unbearable::Repeated | Unbearable::Malformed => Self::Request,
            Unbearable::TooLong => Self::Token,
            Unbearable::Unproven => Self::Proof,
        }
    }
}

/// Makes the `WWW-Authenticate` value that asks for a token of a realm.
pub(crate) fn bearer_challenge(realm: &str, wrong: &Wrong) -> HeaderValue {
    if *wrong == Wrong::Proof {
        return HeaderValue::from_static("DPoP error=\"invalid_dpop_proof\"");
    }
    let mut value = String::with_capacity(48 + realm.len());
    value.push_str("Bearer realm=\"");
    push_quoted(&mut value, realm);
    value.push('"');
    let error = match wrong {
        Wrong::Absent | Wrong::Proof => None,
        Wrong::Request => Some("invalid_request"),
        Wrong::Token => Some("invalid_token"),
        Wrong::Scope(_) => Some("insufficient_scope"),
    };
    if let Some(error) = error {
        value.push_str(", error=\"");
        value.push_str(error);
        value.push('"');
    }
    if let Wrong::Scope(scope) = wrong {
        value.push_str(", scope=\"");
        push_quoted(&mut value, scope);
        value.push('"');
    }
    // What was pushed is printable ASCII; a challenge without the name is still one.
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("Bearer realm=\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_HEADER_BYTES;
    use proptest::prelude::*;

    /// One header, or several, and what must be read of them.
    #[derive(serde::Deserialize)]
    struct Vector {
        id: String,
        authorization: Vec<String>,
        verdict: String,
        status: u16,
        www_authenticate: Option<String>,
        token: Option<String>,
    }

    fn headers(values: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn headers_are_read_as_the_vectors_say() {
        let vectors: Vec<Vector> =
            serde_json::from_str(include_str!("../../tests/bearer_header.json")).unwrap();
        assert_eq!(vectors.len(), 17);
        for vector in vectors {
            let headers = headers(&vector.authorization);
            let read = bearer_token(&headers, MAX_HEADER_BYTES);
            let verdict = match read {
                Ok(_) => "token",
                Err(Unbearable::Missing) => "no_credentials",
                Err(Unbearable::OtherScheme) => "other_scheme",
                Err(Unbearable::Repeated | Unbearable::Malformed) => "invalid_request",
                Err(Unbearable::TooLong) => "too_large",
                Err(Unbearable::Unproven) => "dpop_required",
            };
            assert_eq!(verdict, vector.verdict, "{}", vector.id);
            assert_eq!(read.ok(), vector.token.as_deref(), "{}", vector.id);
            let told = read.err().map(|reason| {
                let wrong = Wrong::from(reason);
                assert_eq!(crate::token::answer::status_of(&wrong).as_u16(), vector.status, "{}", vector.id);
                bearer_challenge("...", &wrong).to_str().unwrap().to_owned()
            });
            assert_eq!(told, vector.www_authenticate, "{}", vector.id);
        }
    }

    fn check(value: &str, expected: Result<&str, Unbearable>) {
        assert_eq!(bearer_token(&headers(&[value.to_owned()]), MAX_HEADER_BYTES), expected, "{value:?}");
    }

    #[test]
    fn a_token_is_one_token68_after_blanks() {
        check("Bearer a", Ok("a"));
        check("bEARER   a.b-c_d~e+f/g==", Ok("a.b-c_d~e+f/g=="));
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer \ta",
            "Bearer a b",
            "Bearer a=b",
            "Bearer a,b",
            "Bearer \u{e9}",
            "Bearer a;b",
        ] {
            check(value, Err(Unbearable::Malformed));
        }
        for value in ["", "Bear", "Bearer\ta", "Bearer,a", "Token a", "Negotiate"] {
            check(value, Err(Unbearable::OtherScheme));
        }
    }

    #[test]
    fn a_header_is_read_up_to_the_limit_and_no_further() {
        let at = |len: usize| [&b"Bearer "[..], &vec![b'A'; len - 7]].concat();
        check(&String::from_utf8(at(MAX_HEADER_BYTES + 1)).unwrap(), Err(Unbearable::TooLong));
        let longest = String::from_utf8(at(MAX_HEADER_BYTES)).unwrap();
        check(&longest, Ok(longest.strip_prefix("Bearer ").unwrap()));
    }

    #[test]
    fn a_challenge_says_what_is_wrong_and_nothing_if_nothing_was_shown() {
        let check =
            |realm: &str, wrong: Wrong, value: &str| assert_eq!(bearer_challenge(realm, &wrong), value);
        check("default", Wrong::Absent, "Bearer realm=\"default\"");
        check("a\"\r\nx: y", Wrong::Token, "Bearer realm=\"a\\\"%0D%0Ax: y\", error=\"invalid_token\"");
        let scope = Wrong::Scope("read \"admin\"\n".into());
        let value = "Bearer realm=\"r\", error=\"insufficient_scope\", scope=\"read \\\"admin\\\"%0A\"";
        check("r", scope, value);
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
            if let Ok(token) = bearer_token(&headers, max) {
                prop_assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(token.len() <= max && headers.len() == 1);
            }
        }

        #[test]
        fn no_realm_or_scope_ends_its_quotes(realm in ".*", scope in ".*") {
            let value = bearer_challenge(&realm, &Wrong::Scope(scope.into()));
            let text = value.to_str().unwrap();
            let mut quotes = 0;
            let mut escaped = false;
            for c in text.chars() {
                quotes += usize::from(!escaped && c == '"');
                escaped = !escaped && c == '\\';
            }
            prop_assert_eq!(quotes, 6);
        }
    }
}

//! Answers: a status that the proxy understands, and headers that a client can't forge.

use std::time::Duration;

use auth_core::{Error, ErrorKind, GroupSet, Principal, Result};
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::response::Response;

use crate::basic::challenge;
use crate::token::{Wrong, bearer_challenge};

const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const REMOTE_GROUPS: HeaderName = HeaderName::from_static("remote-groups");
const REMOTE_REALM: HeaderName = HeaderName::from_static("remote-realm");
const REMOTE_NAME: HeaderName = HeaderName::from_static("remote-name");
const REMOTE_EMAIL: HeaderName = HeaderName::from_static("remote-email");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const EMPTY: HeaderValue = HeaderValue::from_static("");

/// The longest `Remote-Groups`. A longer one would not pass any proxy, and a cut one would be a lie.
const MAX_GROUPS_BYTES: usize = 64 * 1024;

/// How long a client waits after a temporary failure that names no time.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// Which proxies an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// nginx understands 2xx, 401 and 403; whatever else it hears, it answers 500.
    Nginx,
    /// Traefik, Caddy and HAProxy hand to the client what they hear.
    Forward,
}

impl Endpoint {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Forward => "forward",
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The person may pass.
    Allowed(Identity),
    /// Nobody who may log in: missing, unusable or wrong credentials. Where tokens are taken, too: what is wrong with the
    /// one that was shown, if one was.
    Unauthenticated { realm: String, reason: &'static str, bearer: Option<Wrong> },
    /// Somebody who does not meet the demands.
    Forbidden { reason: &'static str },
    /// A request that no honest client behind an honest proxy sends.
    Refused { reason: &'static str },
    /// Nobody could find out.
    Failed(Error),
}

impl Outcome {
    pub(crate) fn into_response(self, endpoint: Endpoint) -> Response {
        match self {
            Self::Allowed(identity) => {
                let mut response = answer(StatusCode::OK, "ok\n");
                identity.insert_into(response.headers_mut());
                response
            }
            Self::Unauthenticated { realm, bearer, .. } => {
                let mut response = answer(StatusCode::UNAUTHORIZED, "authentication required\n");
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge(&realm));
                if let Some(wrong) = bearer {
                    response.headers_mut().append(WWW_AUTHENTICATE, bearer_challenge(&realm, &wrong));
                }
                response
            }
            Self::Forbidden { .. } => answer(StatusCode::FORBIDDEN, "forbidden\n"),
            Self::Refused { .. } => match endpoint {
                Endpoint::Nginx => answer(StatusCode::FORBIDDEN, "forbidden\n"),
                Endpoint::Forward => answer(StatusCode::BAD_REQUEST, "bad request\n"),
            },
            Self::Failed(error) if error.kind() == ErrorKind::Throttled => match endpoint {
                // Not 401: nobody was asked whether the password is right.
                Endpoint::Nginx => later(StatusCode::FORBIDDEN, &error),
                Endpoint::Forward => later(StatusCode::TOO_MANY_REQUESTS, &error),
            },
            Self::Failed(error) if endpoint == Endpoint::Forward && error.kind().is_temporary() => {
                later(StatusCode::SERVICE_UNAVAILABLE, &error)
            }
            Self::Failed(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"),
        }
    }
}

/// Says when to come back.
fn later(status: StatusCode, error: &Error) -> Response {
    let mut response = answer(status, "try again later\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds_to_wait(error)));
    response
}

/// After how many seconds to come back: whole ones, at least one.
pub(crate) fn seconds_to_wait(error: &Error) -> u64 {
    let wait = error.wait().unwrap_or(DEFAULT_WAIT);
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn answer(status: StatusCode, body: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(8);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(CONTENT_TYPE, PLAIN_TEXT);
    response
}

/// Who passed, in headers. All of them are always sent, so that a client's copies are overwritten.
#[derive(Debug)]
pub(crate) struct Identity {
    user: HeaderValue,
    groups: HeaderValue,
    realm: HeaderValue,
}

impl Identity {
    /// Writes somebody into headers.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if the list of groups is too long for a header.
    pub(crate) fn new(who: &Principal, groups: &GroupSet) -> Result<Self> {
        // Seldom is anything escaped: then it grows no more.
        let mut list = String::with_capacity(groups.heap_bytes().min(MAX_GROUPS_BYTES));
        for group in groups.iter() {
            if !list.is_empty() {
                list.push(',');
            }
            push_name(&mut list, group);
            if list.len() > MAX_GROUPS_BYTES {
                return Err(Error::new(ErrorKind::Unsupported, "more groups than a header can carry"));
            }
        }
        Ok(Self { user: value(who.shown())?, groups: header(list)?, realm: value(who.realm().name())? })
    }

    fn insert_into(self, headers: &mut HeaderMap) {
        headers.insert(REMOTE_USER, self.user);
        headers.insert(REMOTE_GROUPS, self.groups);
        headers.insert(REMOTE_REALM, self.realm);
        headers.insert(REMOTE_NAME, EMPTY);
        headers.insert(REMOTE_EMAIL, EMPTY);
    }
}

fn value(name: &str) -> Result<HeaderValue> {
    let mut text = String::with_capacity(name.len());
    push_name(&mut text, name);
    header(text)
}

fn header(text: String) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(|error| {
        Error::new(ErrorKind::Internal, "a header can't hold an escaped name").because(error)
    })
}

/// Appends a name so that it reads back as itself, alone and in a list.
fn push_name(out: &mut String, name: &str) {
    // Blanks within a name stay readable; around it, readers of lists would trim them.
    let rest = name.trim_start_matches(' ');
    let inner = rest.trim_end_matches(' ');
    (rest.len()..name.len()).for_each(|_| out.push_str("%20"));
    push_escaped(out, inner, |byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'%');
    (inner.len()..rest.len()).for_each(|_| out.push_str("%20"));
}

/// Appends a text with every byte that is not plain percent-encoded.
pub(crate) fn push_escaped(out: &mut String, text: &str, plain: impl Fn(u8) -> bool) {
    // Whole texts are mostly plain.
    if text.bytes().all(|byte| byte.is_ascii() && plain(byte)) {
        return out.push_str(text);
    }
    for byte in text.bytes() {
        if byte.is_ascii() && plain(byte) {
            out.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase();
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 15));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::{Id, Login, LoginRule};
    use auth_testkit::{info, realm_with};
    use proptest::prelude::*;

    fn check(name: &str, written: &str) {
        assert_eq!(value(name).unwrap(), written, "{name:?}");
    }

    fn identity(login: &str, groups: &[&str]) -> Result<Identity> {
        let login = Login::parse(&realm_with("caf\u{e9}", LoginRule::Exact), login).unwrap();
        let who = Principal::found(&info("app"), &login, login.as_str(), Id::from(1)).unwrap();
        Identity::new(&who, &groups.iter().copied().collect())
    }

    #[test]
    fn a_name_in_a_header_is_escaped_where_it_could_be_misread() {
        check("staff", "staff");
        check("domain users", "domain users");
        check("a,admins", "a%2Cadmins");
        check("100%", "100%25");
        check("%2C", "%252C");
        check("K\u{f6}che", "K%C3%B6che");
        check("a\r\nRemote-User: root", "a%0D%0ARemote-User: root");
        check("\u{7f}\0\t", "%7F%00%09");
        check("  a b ", "%20%20a b%20");
        check("   ", "%20%20%20");
        check("", "");
    }

    #[test]
    fn everything_about_somebody_is_escaped_alike() {
        let identity = identity("Doe, Zo\u{eb}", &["x", "b,c", "a"]).unwrap();
        assert_eq!(identity.user, "Doe%2C Zo%C3%AB");
        assert_eq!(identity.groups, "a,b%2Cc,x");
        assert_eq!(identity.realm, "caf%C3%A9");
    }

    #[test]
    fn a_list_that_no_header_can_carry_is_an_error_and_not_a_shorter_list() {
        let groups: Vec<String> = (0..70).map(|n| format!("{n:01000}")).collect();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        assert_eq!(identity("calvin", &groups).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(identity("calvin", &groups[..60]).is_ok());
    }

    #[test]
    fn waiting_is_told_in_whole_seconds_and_at_least_one() {
        for (wait, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (90_000, "90")] {
            let error = Error::new(ErrorKind::Overloaded, "full").retry_after(Duration::from_millis(wait));
            let response = Outcome::Failed(error).into_response(Endpoint::Forward);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
    }

    fn unescaped(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(if byte == b'%' {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            } else {
                byte
            });
        }
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn groups_read_back_as_they_are(names in prop::collection::btree_set("(?s).{1,12}", 0..6)) {
            let groups: Vec<&str> = names.iter().map(String::as_str).collect();
            let identity = identity("calvin", &groups).unwrap();
            let list = identity.groups.to_str().unwrap();
            let read: Vec<String> = list.split(',').filter(|name| !name.is_empty()).map(unescaped).collect();
            prop_assert_eq!(read, groups);
        }
    }
}

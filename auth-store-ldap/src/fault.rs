//! What went wrong, as kinds of errors. The one file that knows LDAP's result codes.

use auth_core::{Error, ErrorKind, Reject};
use ldap3::LdapError;

use crate::ber;

/// The request and response control of password policies.
pub(crate) const PPOLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
/// What 389-DS says beside an answer: the password has expired, or must be changed.
const NETSCAPE_EXPIRED: &str = "2.16.840.1.113730.3.4.4";

/// Makes the error of a wrong configuration.
pub(crate) fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

/// Makes the error of a server that can't be reached.
pub(crate) fn unavailable(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

/// Makes the error of an answer that did not come.
pub(crate) fn timeout(what: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, what)
}

/// What a server answers to a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u32,
    /// For us only: it may repeat what was asked.
    text: String,
    controls: Vec<(String, Option<Vec<u8>>)>,
}

impl Answer {
    pub(crate) fn of(result: ldap3::LdapResult) -> Self {
        let controls = result.ctrls.into_iter().map(|control| (control.1.ctype, control.1.val)).collect();
        Self { code: result.rc, text: result.text, controls }
    }

    /// The answer before there is one.
    pub(crate) const fn none() -> Self {
        Self { code: 80, text: String::new(), controls: Vec::new() }
    }

    #[cfg(test)]
    pub(crate) fn made(code: u32, text: &str, controls: Vec<(String, Option<Vec<u8>>)>) -> Self {
        Self { code, text: text.to_owned(), controls }
    }

    /// Reports whether the server says that it can't answer now, whoever asks: another may.
    pub(crate) const fn is_no_answer(&self) -> bool {
        matches!(by_code(self.code), ErrorKind::Unavailable)
    }

    /// Returns the value of a control.
    pub(crate) fn control(&self, oid: &str) -> Option<&[u8]> {
        let (_, value) = self.controls.iter().find(|(name, _)| name == oid)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// Makes an error of a code that is none of those that mean something to who asks.
    fn error(&self, kind: ErrorKind, message: &'static str) -> Error {
        Error::new(kind, message).with("ldap_code", self.code)
    }
}

/// The error of the client library. Only what the system says of a connection is told as a cause: the rest may hold
/// requests.
pub(crate) fn of_client(error: LdapError) -> Error {
    match error {
        LdapError::Io { source } => {
            unavailable("no connection, or it was lost").with("reason", &source).because(source)
        }
        LdapError::Rustls { source } => unavailable("TLS could not be begun").because(source),
        LdapError::DNSName { .. } => wrong("the host is no name that a certificate can have"),
        LdapError::LdapResult { result } => match result.rc {
            51 | 52 | 80 => unavailable("the server does not begin TLS now").with("ldap_code", result.rc),
            code => wrong("the server refuses StartTLS; nothing was sent to it").with("ldap_code", code),
        },
        LdapError::FilterParsing => Error::new(ErrorKind::Internal, "a filter could not be sent"),
        LdapError::Timeout { .. } => timeout("no answer in time"),
        _ => unavailable("the connection was lost"),
    }
}

impl AsRef<Self> for Answer {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// What a bind of a person means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The password is right.
    Right,
    /// The password is right, and the server demands a new one first.
    Must(Reject),
    /// Refused.
    Refused(Reject),
    /// The entry has gone since it was found.
    Gone,
}

/// Reads the answer to a bind of a person.
///
/// # Errors
/// Any kind: the answer is neither a yes nor a no.
pub(crate) fn of_bind(answer: &Answer) -> Result<Bound, Error> {
    let policy = answer.control(PPOLICY).and_then(ber::policy).unwrap_or_default();
    let refused = |reject| Ok(Bound::Refused(reject));
    match answer.code {
        0 => match policy.error {
            Some(ber::PolicyError::Expired) => Ok(Bound::Must(Reject::PasswordExpired)),
            Some(ber::PolicyError::MustChange) => Ok(Bound::Must(Reject::MustChange)),
            Some(ber::PolicyError::Locked) => Ok(Bound::Must(Reject::Locked)),
            Some(ber::PolicyError::Other) | None if answer.control(NETSCAPE_EXPIRED).is_some() => {
                Ok(Bound::Must(Reject::MustChange))
            }
            Some(ber::PolicyError::Other) | None => {
                if let Some(left) = policy.grace {
                    tracing::info!(
                        left,
                        "somebody has logged in with an expired password, as the policy still allows"
                    );
                }
                Ok(Bound::Right)
            }
        },
        49 => match policy.error {
            Some(ber::PolicyError::Expired) => refused(Reject::PasswordExpired),
            Some(ber::PolicyError::Locked) => refused(Reject::Locked),
            Some(ber::PolicyError::MustChange) => refused(Reject::MustChange),
            Some(ber::PolicyError::Other) | None if answer.control(NETSCAPE_EXPIRED).is_some() => {
                refused(Reject::PasswordExpired)
            }
            Some(ber::PolicyError::Other) | None => refused(active_directory(&answer.text)),
        },
        19 => refused(Reject::Locked),
        32 => Ok(Bound::Gone),
        10 => Err(answer
            .error(ErrorKind::Misconfigured, "the server refers logins to another, which is never followed")),
        48 | 50 | 53 => refusal_by_text(answer),
        8 | 13 => Err(answer.error(ErrorKind::Misconfigured, "the server demands TLS for logins")),
        34 => Err(answer.error(ErrorKind::Misconfigured, "the name that was made of the login is none")),
        code => Err(answer.error(by_code(code), "the server could not decide about a login")),
    }
}

/// Servers that are unwilling say why in words.
fn refusal_by_text(answer: &Answer) -> Result<Bound, Error> {
    let text = answer.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["inactivated", "disabled", "deactivated"]) {
        Ok(Bound::Refused(Reject::Disabled))
    } else if says(&["locked", "retry limit"]) {
        Ok(Bound::Refused(Reject::Locked))
    } else if says(&["not permitted to log", "logon hours", "at this time"]) {
        Ok(Bound::Refused(Reject::NotNow))
    } else {
        tracing::warn!(ldap_code = answer.code, "the server is unwilling to decide about a login");
        Err(answer.error(ErrorKind::Misconfigured, "the server is unwilling to decide about a login"))
    }
}

/// Reads the reason that Active Directory gives in words: `..., comment: AcceptSecurityContext error, data 52e, v3839`.
fn active_directory(text: &str) -> Reject {
    let code = text
        .contains("AcceptSecurityContext")
        .then(|| text.split_once("data ").map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default()))
        .flatten();
    match code.map(|code| u32::from_str_radix(code, 16).unwrap_or_default()) {
        Some(0x525) => Reject::UnknownUser,
        Some(0x530 | 0x531) => Reject::NotNow,
        Some(0x532) => Reject::PasswordExpired,
        Some(0x533) => Reject::Disabled,
        Some(0x701) => Reject::AccountExpired,
        Some(0x773) => Reject::MustChange,
        Some(0x775) => Reject::Locked,
        _ => Reject::BadPassword,
    }
}

/// Reads the answer to our own bind.
///
/// # Errors
/// If it is not a yes.
pub(crate) fn of_service_bind(answer: &Answer) -> Result<(), Error> {
    let refused = |message| Err(answer.error(ErrorKind::Misconfigured, message));
    match answer.code {
        0 => Ok(()),
        32 | 34 | 48 | 49 => {
            refused("the server refuses our own account: wrong `bind_dn` or `bind_password`")
        }
        8 | 13 => refused("the server demands TLS"),
        7 => refused("the server does not offer this way to log in"),
        10 => refused("the server refers our own account to another, which is never followed"),
        19 | 50 | 53 => refused("the server refuses our own account"),
        code => Err(answer.error(by_code(code), "our own account could not log in")),
    }
}

/// Reads the answer to a search that has found this many entries, of which `limit` were asked for.
///
/// # Errors
/// If what was found is not all there is.
pub(crate) fn of_search(answer: &Answer, found: usize, limit: usize) -> Result<(), Error> {
    let misconfigured = |message| Err(answer.error(ErrorKind::Misconfigured, message));
    match answer.code {
        0 => Ok(()),
        4 if found >= limit => Ok(()),
        4 | 11 => Err(answer.error(ErrorKind::Overloaded, "the server's own limit cut a search short")),
        3 => Err(answer.error(ErrorKind::Overloaded, "the server's own time limit ended a search")),
        32 => misconfigured("the base of the search is not there"),
        10 => misconfigured("the server refers the search to another, which is never followed"),
        1 | 8 | 13 | 48 | 49 | 50 | 53 => misconfigured("the server refuses to search for our account"),
        12 | 16..=18 | 21 | 34 => misconfigured("the server can't do the configured search"),
        code => Err(answer.error(by_code(code), "the server could not search")),
    }
}

/// Reads the answer to a comparison with a password.
///
/// # Errors
/// Any kind: the answer is neither a yes nor a no.
pub(crate) fn of_compare(answer: &Answer) -> Result<Bound, Error> {
    let misconfigured = |message| Err(answer.error(ErrorKind::Misconfigured, message));
    match answer.code {
        6 => Ok(Bound::Right),
        5 => Ok(Bound::Refused(Reject::BadPassword)),
        16 => Ok(Bound::Refused(Reject::NoPassword)),
        32 => Ok(Bound::Gone),
        10 => misconfigured("the server refers the comparison to another, which is never followed"),
        8 | 13 | 48 | 50 | 53 => misconfigured("the server refuses to compare passwords for our account"),
        17 | 18 | 21 | 34 => misconfigured("the server can't compare this attribute"),
        code => Err(answer.error(by_code(code), "the server could not compare")),
    }
}

/// The kind of a code that says nothing about the question itself.
const fn by_code(code: u32) -> ErrorKind {
    match code {
        51 | 52 | 80 | 81 | 91 => ErrorKind::Unavailable,
        3 | 85 => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u32, text: &str) -> Answer {
        Answer::made(code, text, Vec::new())
    }

    #[test]
    fn every_sub_code_of_active_directory_has_its_reason() {
        for (code, expected) in [
            ("525", Reject::UnknownUser),
            ("52e", Reject::BadPassword),
            ("530", Reject::NotNow),
            ("531", Reject::NotNow),
            ("532", Reject::PasswordExpired),
            ("533", Reject::Disabled),
            ("701", Reject::AccountExpired),
            ("773", Reject::MustChange),
            ("775", Reject::Locked),
            ("57", Reject::BadPassword),
            ("zzz", Reject::BadPassword),
        ] {
            let text = format!(
                "80090308: LdapErr: DSID-0C09042F, comment: AcceptSecurityContext error, data {code}, v3839\0"
            );
            assert_eq!(of_bind(&answer(49, &text)).unwrap(), Bound::Refused(expected), "{code}");
        }
        assert_eq!(of_bind(&answer(49, "data 775")).unwrap(), Bound::Refused(Reject::BadPassword));
    }

    #[test]
    fn what_a_policy_says_outranks_the_code() {
        let check = |code, value: &[u8], expected: Bound| {
            let controls = vec![(PPOLICY.to_owned(), Some(value.to_vec()))];
            assert_eq!(of_bind(&Answer::made(code, "", controls)).unwrap(), expected, "{code} {value:x?}");
        };
        check(49, &[0x30, 3, 0x81, 1, 1], Bound::Refused(Reject::Locked));
        check(49, &[0x30, 3, 0x81, 1, 0], Bound::Refused(Reject::PasswordExpired));
        check(49, &[0x30, 0], Bound::Refused(Reject::BadPassword));
        check(0, &[0x30, 3, 0x81, 1, 2], Bound::Must(Reject::MustChange));
        check(0, &[0x30, 5, 0xa0, 3, 0x81, 1, 3], Bound::Right);
        check(0, &[0x30, 3, 0x81, 1, 99], Bound::Right);
        check(0, &[0x30, 200], Bound::Right);
        let expired = vec![(NETSCAPE_EXPIRED.to_owned(), Some(b"0".to_vec()))];
        let bound = |code| of_bind(&Answer::made(code, "", expired.clone())).unwrap();
        assert_eq!(
            (bound(49), bound(0)),
            (Bound::Refused(Reject::PasswordExpired), Bound::Must(Reject::MustChange))
        );
    }

    #[test]
    fn no_code_but_0_and_6_lets_anybody_in() {
        for code in 0..130 {
            let bind = of_bind(&answer(code, ""));
            assert_eq!(matches!(bind, Ok(Bound::Right | Bound::Must(_))), code == 0, "bind {code}: {bind:?}");
            let compared = of_compare(&answer(code, ""));
            assert_eq!(matches!(compared, Ok(Bound::Right)), code == 6, "compare {code}: {compared:?}");
            assert_eq!(of_service_bind(&answer(code, "")).is_ok(), code == 0, "our bind {code}");
            assert_eq!(of_search(&answer(code, ""), 0, 2).is_ok(), code == 0, "search {code}");
        }
    }

    #[test]
    fn codes_have_their_kinds() {
        let bind = |code, text| of_bind(&answer(code, text)).unwrap_err().kind();
        for code in [10, 8, 13, 34, 48, 50, 53] {
            assert_eq!(bind(code, ""), ErrorKind::Misconfigured, "{code}");
        }
        for code in [51, 52, 80, 81, 91] {
            assert_eq!(bind(code, ""), ErrorKind::Unavailable, "{code}");
        }
        assert_eq!((bind(85, ""), bind(2, "")), (ErrorKind::Timeout, ErrorKind::Internal));
        assert_eq!(of_bind(&answer(19, "")).unwrap(), Bound::Refused(Reject::Locked));
        let inactivated = "Account inactivated. Contact system administrator.";
        assert_eq!(of_bind(&answer(53, inactivated)).unwrap(), Bound::Refused(Reject::Disabled));
        let search = |code| of_search(&answer(code, ""), 1, 2).unwrap_err().kind();
        assert_eq!(
            (search(3), search(4), search(11)),
            (ErrorKind::Overloaded, ErrorKind::Overloaded, ErrorKind::Overloaded)
        );
        assert_eq!(
            (search(32), search(10), search(50)),
            (ErrorKind::Misconfigured, ErrorKind::Misconfigured, ErrorKind::Misconfigured)
        );
        assert!(of_search(&answer(4, ""), 2, 2).is_ok(), "two are two, cut short or not");
    }

    #[test]
    fn what_a_server_says_is_in_no_error() {
        for code in [1, 10, 34, 50, 51, 53, 99] {
            let error = of_bind(&answer(code, "uid=hobbes is not allowed")).unwrap_err();
            assert!(!format!("{error:?}").contains("hobbes"), "{error:?}");
        }
    }
}

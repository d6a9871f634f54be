//! The little of BER that the client library does not read: values of controls.

/// Reads one value: its tag, its contents, and what follows.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

fn number(contents: &[u8]) -> Option<i64> {
    let (first, _) = contents.split_first()?;
    if contents.len() > 8 {
        return None;
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Some(contents.iter().fold(sign, |sum, byte| (sum << 8) | i64::from(*byte)))
}

/// What a password policy says beside an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Policy {
    pub(crate) error: Option<PolicyError>,
    /// How many logins are left with an expired password.
    pub(crate) grace: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyError {
    Expired,
    Locked,
    MustChange,
    /// About changes of passwords, which are not made here.
    Other,
}

/// Reads the response control of a password policy.
pub(crate) fn policy(bytes: &[u8]) -> Option<Policy> {
    let (0x30, mut rest, _) = value(bytes)? else { return None };
    let mut policy = Policy::default();
    while !rest.is_empty() {
        let (tag, contents, next) = value(rest)?;
        match tag {
            0xa0 => {
                if let (0x81, left, _) = value(contents)? {
                    policy.grace = number(left);
                }
            }
            0x81 => {
                policy.error = Some(match number(contents)? {
                    0 => PolicyError::Expired,
                    1 => PolicyError::Locked,
                    2 => PolicyError::MustChange,
                    _ => PolicyError::Other,
                });
            }
            _ => {}
        }
        rest = next;
    }
    Some(policy)
}

/// Reads the cookie of the response control of paged results.
pub(crate) fn cookie(bytes: &[u8]) -> Option<Vec<u8>> {
    let (0x30, rest, _) = value(bytes)? else { return None };
    let (_, _, rest) = value(rest)?;
    let (4, cookie, _) = value(rest)? else { return None };
    Some(cookie.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_policy_is_read() {
        let check = |bytes: &[u8], error, grace| {
            assert_eq!(policy(bytes), Some(Policy { error, grace }), "{bytes:x?}")
        };
        check(&[0x30, 3, 0x81, 1, 1], Some(PolicyError::Locked), None);
        check(&[0x30, 5, 0xa0, 3, 0x81, 1, 2], None, Some(2));
        check(&[0x30, 8, 0xa0, 3, 0x80, 1, 9, 0x81, 1, 0], Some(PolicyError::Expired), None);
        check(&[0x30, 0x81, 3, 0x81, 1, 5], Some(PolicyError::Other), None);
        check(&[0x30, 0], None, None);
        assert_eq!(policy(&[]), None);
        assert_eq!(policy(&[0x30, 5, 0x81]), None);
    }

    #[test]
    fn a_cookie_is_read() {
        assert_eq!(cookie(&[0x30, 7, 2, 1, 0, 4, 2, b'a', b'b']), Some(b"ab".to_vec()));
        assert_eq!(cookie(&[0x30, 5, 2, 1, 0, 4, 0]), Some(Vec::new()));
        assert_eq!(cookie(b"junk"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _ = (policy(&bytes), cookie(&bytes));
        }
    }
}

//! Distinguished names: templates, escaping (RFC 4514), and comparing those that a server has written.

use auth_core::Result;

use crate::fault::wrong;

const LOGIN: &str = "{login}";

/// A name with `{login}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<String>);

impl Template {
    /// Parses a template of configuration.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured).
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self> {
        let parts: Vec<String> = text.split(LOGIN).map(str::to_owned).collect();
        if parts.len() < 2 || parts.iter().any(|part| part.contains(['{', '}'])) {
            let message =
                format!("`{key}` is a name with {LOGIN} in it, as uid={LOGIN},ou=people,dc=example,dc=com");
            return Err(wrong(message));
        }
        let template = Self(parts);
        match rdns(&template.fill("x")) {
            Some(rdns) if !rdns.is_empty() => Ok(template),
            _ => Err(wrong(format!("`{key}` is no distinguished name"))),
        }
    }

    /// Fills in a login, escaped.
    pub(crate) fn fill(&self, login: &str) -> String {
        self.0.join(&escaped(login))
    }

    /// Lists the attributes.
    pub(crate) fn attributes(&self) -> Vec<String> {
        let rdns = rdns(&self.fill("x")).unwrap_or_default();
        rdns.into_iter().flatten().map(|(attribute, _)| attribute).collect()
    }
}

/// Escapes a value. All that is not plain, so that there is nothing to forget.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('\\');
            for half in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
            }
        }
    }
    text
}

type Rdn = Vec<(String, Vec<u8>)>;

/// Takes a name apart: of each part the attributes, in small letters, and their values.
pub(crate) fn rdns(dn: &str) -> Option<Vec<Rdn>> {
    let mut parts = vec![Rdn::new()];
    let mut bytes = dn.bytes().peekable();
    while bytes.peek().is_some() {
        let mut attribute = Vec::new();
        loop {
            match bytes.next()? {
                b'=' => break,
                byte => attribute.push(byte),
            }
        }
        let attribute = String::from_utf8(attribute).ok()?.trim().to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
        if attribute.is_empty() || !attribute.bytes().all(plain) {
            return None;
        }
        // How much of the value is there for certain: blanks at the end are not, unless they are escaped.
        let (mut value, mut certain, mut quoted) = (Vec::new(), 0, false);
        let mut end = None;
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => {
                    let next = bytes.next()?;
                    let high = char::from(next).to_digit(16);
                    let low = bytes.peek().and_then(|low| char::from(*low).to_digit(16));
                    match high.zip(low) {
                        Some((high, low)) => {
                            bytes.next();
                            value.push(u8::try_from(high * 16 + low).ok()?);
                        }
                        None => value.push(next),
                    }
                    certain = value.len();
                }
                b'"' => quoted = !quoted,
                b',' | b';' | b'+' if !quoted => {
                    end = Some(byte);
                    break;
                }
                b' ' if value.is_empty() && !quoted => {}
                byte => {
                    value.push(byte);
                    if byte != b' ' || quoted {
                        certain = value.len();
                    }
                }
            }
        }
        value.truncate(certain);
        parts.last_mut()?.push((attribute, value));
        match end {
            Some(b'+') => {}
            Some(_) => {
                // Something must follow.
                bytes.peek()?;
                parts.push(Rdn::new());
            }
            None => break,
        }
    }
    Some(parts)
}

/// Makes a key that names alike have: whatever their case, blanks and escapes.
pub(crate) fn key(dn: &str) -> String {
    let Some(parts) = rdns(dn) else { return dn.to_lowercase() };
    let text = |value: &[u8]| {
        let folded = String::from_utf8_lossy(value).to_lowercase();
        let words: Vec<&str> = folded.split(' ').filter(|word| !word.is_empty()).collect();
        escaped(&words.join(" "))
    };
    let part = |mut rdn: Rdn| {
        rdn.sort();
        let all: Vec<String> =
            rdn.iter().map(|(attribute, value)| format!("{attribute}={}", text(value))).collect();
        all.join("+")
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join(",")
}

/// Returns what a name lies right under.
pub(crate) fn parent(dn: &str) -> Option<&str> {
    let (mut escaped, mut quoted) = (false, false);
    let end = dn.bytes().position(|byte| {
        let ends = !escaped && !quoted && matches!(byte, b',' | b';');
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    dn.get(end + 1..).map(str::trim_start).filter(|parent| !parent.is_empty())
}

/// Reports whether a name lies under another, or is it.
pub(crate) fn is_under(dn: &str, base: &str) -> bool {
    let (dn, base) = (key(dn), key(base));
    base.is_empty() || dn == base || dn.strip_suffix(&base).is_some_and(|rest| rest.ends_with(','))
}

/// Returns the value of the first part if it is named by this attribute.
pub(crate) fn first_value(dn: &str, attribute: &str) -> Option<String> {
    let first = rdns(dn)?.into_iter().next()?;
    let (_, value) = first.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute))?;
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_mean_the_same_have_one_key() {
        let one = key("uid=calvin,ou=people,dc=example,dc=com");
        for other in [
            "UID=Calvin, OU=People, dc=example ,DC=com",
            "uid=c\\61lvin,ou=people,dc=example,dc=com",
            "uid=\"calvin\",ou=people,dc=example,dc=com",
        ] {
            assert_eq!(key(other), one, "{other}");
        }
        assert_ne!(key("uid=calvin\\,ou=people,dc=example,dc=com"), one);
        assert_eq!(key("cn=a+sn=b,dc=c"), key("sn=b+cn=a,dc=c"));
        assert_eq!(key(""), "");
    }

    #[test]
    fn a_name_lies_under_its_base_and_not_under_one_that_only_ends_alike() {
        assert!(is_under("cn=a,ou=Groups,dc=x", "ou=groups, dc=x") && is_under("dc=x", "dc=x"));
        assert!(!is_under("cn=a,ou=mygroups,dc=x", "groups,dc=x") && !is_under("dc=x", "cn=a,dc=x"));
        assert!(!is_under("cn=a\\,ou=groups,dc=y", "ou=groups,dc=x") && is_under("cn=a", ""));
    }

    #[test]
    fn the_first_value_is_unescaped() {
        assert_eq!(first_value("cn=a\\,b \\28c\\29,dc=x", "CN").as_deref(), Some("a,b (c)"));
        assert_eq!(first_value("ou=a,dc=x", "cn"), None);
        assert_eq!(first_value("cn=caf\\C3\\A9,dc=x", "cn").as_deref(), Some("caf\u{e9}"));
    }

    #[test]
    fn a_name_lies_under_the_rest_of_it() {
        assert_eq!(parent("uid=a\\,b, ou=people,dc=x"), Some("ou=people,dc=x"));
        assert_eq!(parent("uid=\"a,b\",dc=x"), Some("dc=x"));
        assert_eq!(parent("dc=x"), None);
    }

    #[test]
    fn a_template_is_a_name_with_a_login() {
        for text in ["uid=x,dc=y", "{login}", "uid={login},{x}=y", "uid={login},", "={login}"] {
            assert!(Template::parse("user_dn", text).is_err(), "{text}");
        }
        let template = Template::parse("user_dn", "uid={login},ou=people,dc=x").unwrap();
        assert_eq!(template.attributes(), ["uid", "ou", "dc"]);
    }

    proptest! {
        #[test]
        fn nothing_in_a_login_becomes_part_of_a_name(login in any::<String>()) {
            let template = Template::parse("user_dn", "uid={login},ou=people,dc=x").unwrap();
            let expected = vec![
                vec![("uid".to_owned(), login.as_bytes().to_vec())],
                vec![("ou".to_owned(), b"people".to_vec())],
                vec![("dc".to_owned(), b"x".to_vec())],
            ];
            prop_assert_eq!(rdns(&template.fill(&login)), Some(expected));
        }
    }
}

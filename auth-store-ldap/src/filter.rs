//! Search filters as trees (RFC 4515): parsed once from configuration, filled with values, never put together as text.

use auth_core::Result;

use crate::fault::wrong;

/// How deep a filter may be nested.
const DEEPEST: usize = 32;

/// What can stand in the place of a value: `{login}` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Login,
    Dn,
}

/// What the slots are filled with. What is not there makes an assertion about it false.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) login: Option<&'a [u8]>,
    pub(crate) dn: Option<&'a [u8]>,
}

impl<'a> Values<'a> {
    fn get(self, slot: Slot) -> Option<&'a [u8]> {
        match slot {
            Slot::Login => self.login,
            Slot::Dn => self.dn,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Slot(Slot),
    /// The `*` between the parts of a value, or alone.
    Any,
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// What stands before the value (attribute, options, matching rule), the operator, and the value.
    Is(Assertion),
    /// Nothing fulfills it.
    Never,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assertion {
    attribute: String,
    operator: &'static str,
    value: Vec<Piece>,
}

impl Filter {
    /// Parses a filter of configuration.
    ///
    /// # Errors
    /// [`Misconfigured`](auth_core::ErrorKind::Misconfigured), with the place.
    pub(crate) fn parse(key: &str, text: &str) -> Result<Self> {
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let parsed = reader.filter(0).and_then(|filter| match reader.at == text.len() {
            true => Ok(filter),
            false => Err("something follows the filter"),
        });
        parsed.map_err(|why| wrong(format!("`{key}` is no LDAP filter: {why} (character {})", reader.at + 1)))
    }

    /// Makes `(attribute=value)`.
    pub(crate) fn equal(attribute: &str, value: &[u8]) -> Self {
        Self::Is(Assertion {
            attribute: attribute.to_owned(),
            operator: "=",
            value: vec![Piece::Bytes(value.to_vec())],
        })
    }

    /// Makes `(attribute={slot})`.
    pub(crate) fn slot(attribute: &str, slot: Slot) -> Self {
        Self::Is(Assertion { attribute: attribute.to_owned(), operator: "=", value: vec![Piece::Slot(slot)] })
    }

    /// Reports whether a slot is in it.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.assertions().iter().any(|is| is.value.contains(&Piece::Slot(slot)))
    }

    /// Lists the attributes, without their options.
    pub(crate) fn attributes(&self) -> Vec<&str> {
        let name =
            |is: &'_ Assertion| -> usize { is.attribute.find([';', ':']).unwrap_or(is.attribute.len()) };
        let all = self.assertions();
        all.into_iter()
            .filter_map(|is| is.attribute.get(..name(is)))
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Reports whether a matching rule is used.
    pub(crate) fn has_rule(&self, rule: &str) -> bool {
        self.assertions().iter().any(|is| is.attribute.split(':').any(|part| part == rule))
    }

    fn assertions(&self) -> Vec<&Assertion> {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().flat_map(Self::assertions).collect(),
            Self::Not(inner) => inner.assertions(),
            Self::Is(is) => vec![is],
            Self::Never => Vec::new(),
        }
    }

    /// Fills the slots. Nothing of a value can become more than a value: every byte that is not plain is escaped
    /// where the filter is written.
    pub(crate) fn fill(&self, values: Values<'_>) -> Self {
        match self {
            Self::And(all) => {
                let all: Vec<Self> = all.iter().map(|one| one.fill(values)).collect();
                if all.contains(&Self::Never) { Self::Never } else { Self::And(all) }
            }
            Self::Or(all) => {
                let all: Vec<Self> =
                    all.iter().map(|one| one.fill(values)).filter(|one| *one != Self::Never).collect();
                if all.is_empty() { Self::Never } else { Self::Or(all) }
            }
            Self::Not(inner) => match inner.fill(values) {
                // Not known, rather than true of everybody.
                Self::Never => Self::Never,
                inner => Self::Not(Box::new(inner)),
            },
            Self::Is(is) => is.fill(values).map_or(Self::Never, Self::Is),
            Self::Never => Self::Never,
        }
    }

    /// Writes it; nothing if nothing can fulfill it.
    pub(crate) fn text(&self) -> Option<String> {
        let mut text = String::new();
        if *self == Self::Never {
            return None;
        }
        self.write(&mut text);
        Some(text)
    }

    fn write(&self, text: &mut String) {
        text.push('(');
        match self {
            Self::And(all) => {
                text.push('&');
                all.iter().for_each(|one| one.write(text));
            }
            Self::Or(all) => {
                text.push('|');
                all.iter().for_each(|one| one.write(text));
            }
            Self::Not(inner) => {
                text.push('!');
                inner.write(text);
            }
            Self::Is(is) => is.write(text),
            // `fill` leaves it nowhere but at the top.
            Self::Never => text.push('|'),
        }
        text.push(')');
    }
}

impl Assertion {
    fn fill(&self, values: Values<'_>) -> Option<Self> {
        let fill = |piece: &Piece| match piece {
            Piece::Slot(slot) => values.get(*slot).map(|bytes| Piece::Bytes(bytes.to_vec())),
            other => Some(other.clone()),
        };
        let value: Option<Vec<Piece>> = self.value.iter().map(fill).collect();
        Some(Self { attribute: self.attribute.clone(), operator: self.operator, value: value? })
    }

    fn write(&self, text: &mut String) {
        text.push_str(&self.attribute);
        text.push_str(self.operator);
        for piece in &self.value {
            match piece {
                Piece::Bytes(bytes) => bytes.iter().for_each(|byte| escape(*byte, text)),
                Piece::Any => text.push('*'),
                Piece::Slot(slot) => text.push_str(if *slot == Slot::Login { "{login}" } else { "{dn}" }),
            }
        }
    }
}

/// Writes a byte of a value: as it is if it is plain, else as `\xx`.
fn escape(byte: u8, text: &mut String) {
    if byte.is_ascii_alphanumeric() || b"-_.@,= ".contains(&byte) {
        text.push(char::from(byte));
    } else {
        text.push('\\');
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

type Parsed<T> = std::result::Result<T, &'static str>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8, fault: &'static str) -> Parsed<()> {
        if self.peek() != Some(wanted) {
            return Err(fault);
        }
        self.at += 1;
        Ok(())
    }

    fn filter(&mut self, depth: usize) -> Parsed<Filter> {
        if depth > DEEPEST {
            return Err("it is nested too deeply");
        }
        self.take(b'(', "`(` is missing")?;
        let filter = match self.peek() {
            Some(b'&') => Filter::And(self.list(depth)?),
            Some(b'|') => Filter::Or(self.list(depth)?),
            Some(b'!') => {
                self.at += 1;
                Filter::Not(Box::new(self.filter(depth + 1)?))
            }
            _ => Filter::Is(self.assertion()?),
        };
        self.take(b')', "`)` is missing")?;
        Ok(filter)
    }

    fn list(&mut self, depth: usize) -> Parsed<Vec<Filter>> {
        self.at += 1;
        let mut all = Vec::new();
        while self.peek() == Some(b'(') {
            all.push(self.filter(depth + 1)?);
        }
        if all.is_empty() { Err("`&` and `|` need filters in parentheses") } else { Ok(all) }
    }

    fn assertion(&mut self) -> Parsed<Assertion> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b"-._;:".contains(&b)) {
            self.at += 1;
        }
        let mut name = self.text.get(start..self.at).unwrap_or_default();
        let operator = match (self.peek(), self.text.get(self.at + 1)) {
            (Some(b'='), _) => "=",
            (Some(b'~'), Some(b'=')) => "~=",
            (Some(b'>'), Some(b'=')) => ">=",
            (Some(b'<'), Some(b'=')) => "<=",
            _ => return Err("an attribute is followed by =, ~=, >= or <="),
        };
        self.at += operator.len();
        let operator = match name.strip_suffix(b":") {
            Some(rest) if operator == "=" => {
                name = rest;
                ":="
            }
            Some(_) => return Err("a matching rule is followed by :="),
            None => operator,
        };
        let first = name.first().copied().unwrap_or(b' ');
        if !first.is_ascii_alphanumeric() {
            return Err("an attribute is missing");
        }
        let attribute = String::from_utf8(name.to_vec()).map_err(|_| "an attribute is missing")?;
        let value = self.value()?;
        if value.contains(&Piece::Any) && operator != "=" {
            return Err("`*` is for = only; \\2a means the character");
        }
        if value.is_empty() {
            return Err("a value is missing");
        }
        Ok(Assertion { attribute, operator, value })
    }

    fn value(&mut self) -> Parsed<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().ok_or("`)` is missing")?;
            let special = match byte {
                b')' => break,
                b'(' | 0 => return Err("this character must be escaped: \\28 for (, \\00 for NUL"),
                b'*' => Some(Piece::Any),
                b'{' => Some(Piece::Slot(self.slot()?)),
                b'\\' => {
                    let digit = |at: usize| self.text.get(at).and_then(|b| char::from(*b).to_digit(16));
                    let (high, low) = digit(self.at + 1)
                        .zip(digit(self.at + 2))
                        .ok_or("`\\` is followed by two hexadecimal digits")?;
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    self.at += 3;
                    continue;
                }
                plain => {
                    bytes.push(plain);
                    None
                }
            };
            self.at += 1;
            if let Some(piece) = special {
                if !bytes.is_empty() {
                    pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
                }
                pieces.push(piece);
            }
        }
        if !bytes.is_empty() {
            pieces.push(Piece::Bytes(bytes));
        }
        Ok(pieces)
    }

    /// Reads a slot up to its `}`, which is left to be stepped over.
    fn slot(&mut self) -> Parsed<Slot> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (name, slot) in [("{login}", Slot::Login), ("{dn}", Slot::Dn)] {
            if rest.starts_with(name.as_bytes()) {
                self.at += name.len() - 1;
                return Ok(slot);
            }
        }
        Err("only {login} and {dn} can be filled in; \\7b means the character {")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str, login: &[u8]) -> Option<String> {
        let values = Values { login: Some(login), ..Values::default() };
        Filter::parse("user_filter", text).unwrap().fill(values).text()
    }

    #[test]
    fn a_filter_is_parsed_filled_and_written() {
        for (text, expected) in [
            ("(uid={login})", "(uid=calvin)"),
            (
                "(&(objectClass=person)(|(uid={login})(mail={login}@*)))",
                "(&(objectClass=person)(|(uid=calvin)(mail=calvin@*)))",
            ),
            ("(!(loginShell=*nologin))", "(!(loginShell=*nologin))"),
            ("(cn=\\2a\\28x)", "(cn=\\2a\\28x)"),
            ("(cn;lang-de~=a)", "(cn;lang-de~=a)"),
            ("(memberOf:1.2.840.113556.1.4.1941:=cn=a)", "(memberOf:1.2.840.113556.1.4.1941:=cn=a)"),
            ("(uidNumber>=1000)", "(uidNumber>=1000)"),
            ("(cn=a b/c)", "(cn=a b\\2fc)"),
        ] {
            assert_eq!(filled(text, b"calvin").as_deref(), Some(expected), "{text}");
            assert!(ldap3::parse_filter(expected).is_ok(), "{expected}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_place() {
        for text in [
            "",
            "uid={login}",
            "(uid={login}",
            "(uid={login}))",
            "(&)",
            "(uid={user})",
            "(=x)",
            "(uid)",
            "(uid=)",
            "(uid=a(b)",
            "(uid=\\2)",
            "(uid>=*)",
            "(uid=a)(b=c)",
            "(:=x)",
        ] {
            let error = Filter::parse("user_filter", text).unwrap_err();
            assert!(error.message().contains("`user_filter` is no LDAP filter"), "{text}: {error}");
        }
        let deep = "(!".repeat(40) + "(a=b)" + &")".repeat(40);
        assert!(Filter::parse("user_filter", &deep).is_err());
    }

    #[test]
    fn an_assertion_about_what_is_not_there_is_false() {
        let filter = Filter::parse("f", "(&(objectClass=g)(|(member={dn})(memberUid={login})))").unwrap();
        let of_group = Values { dn: Some(b"cn=g"), login: None };
        assert_eq!(filter.fill(of_group).text().unwrap(), "(&(objectClass=g)(|(member=cn=g)))");
        let posix = Filter::parse("f", "(memberUid={login})").unwrap();
        assert_eq!(posix.fill(of_group).text(), None);
        assert_eq!(Filter::parse("f", "(!(memberUid={login}))").unwrap().fill(of_group).text(), None);
    }

    #[test]
    fn the_attributes_of_a_filter_are_known() {
        let filter = Filter::parse("f", "(&(objectClass=g)(!(cn;lang-de=x))(memberOf:1.2.3:={dn}))").unwrap();
        assert_eq!(filter.attributes(), ["objectClass", "cn", "memberOf"]);
        assert!(filter.has(Slot::Dn) && !filter.has(Slot::Login) && filter.has_rule("1.2.3"));
    }

    proptest! {
        #[test]
        fn nothing_in_a_value_becomes_syntax(login in any::<Vec<u8>>()) {
            prop_assume!(!login.is_empty());
            let text = filled("(&(objectClass=person)(uid={login}))", &login).unwrap();
            // Read by our own reader, the tree is the configured one and the value the very bytes.
            let expected = Filter::And(vec![
                Filter::equal("objectClass", b"person"),
                Filter::equal("uid", &login),
            ]);
            prop_assert_eq!(Filter::parse("f", &text).unwrap(), expected);
            // What the client library makes of it has the shape of a harmless one.
            let shape = |text: &str| format!("{:?}", ldap3::parse_filter(text).unwrap()).matches("id:").count();
            prop_assert_eq!(shape(&text), shape("(&(objectClass=person)(uid=x))"));
        }
    }
}

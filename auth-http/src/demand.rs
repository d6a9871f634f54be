//! What the auth URL demands beside a right password. The operator writes it into the proxy's configuration.

use std::borrow::Cow;

use auth_core::{Error, ErrorKind, Id, ObjectRef, Result, check_name};

/// More groups or parts of an id than this are a mistake.
const MAX_REPEATS: usize = 64;

/// The demands of one auth URL.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// The realm that the URL chooses.
    pub(crate) realm: Option<String>,
    /// The groups of which one is needed; none means no demand.
    pub(crate) groups: Vec<String>,
    /// The object on which a right is needed.
    pub(crate) object: Option<ObjectDemand>,
}

/// A demand for a right on an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ObjectDemand {
    pub(crate) domain: String,
    /// `None` is an object that can't exist: proxies fill in ids from what clients send.
    pub(crate) object: Option<ObjectRef>,
    /// `None` asks for any right at all.
    pub(crate) mode: Option<String>,
}

impl Demand {
    /// Reads the query of an auth URL.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for whatever is not understood: a demand that is left out
    /// would open the door.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self> {
        let mut demand = Self::default();
        let (mut domain, mut mode, mut id) = (None, None, Some(Vec::new()));
        for pair in query.unwrap_or_default().split('&') {
            if pair.is_empty() {
                continue;
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            match key {
                "realm" => once(&mut demand.realm, "realm", value)?,
                "domain" => once(&mut domain, "domain", value)?,
                "mode" => once(&mut mode, "mode", value)?,
                "group" if demand.groups.len() < MAX_REPEATS => demand.groups.push(name("group", value)?),
                "id" => id = id.and_then(|parts| with_part(parts, &value?)),
                _ => return Err(mistake("an unknown or endless key").with("key", shown(key))),
            }
        }
        let no_id = id.as_ref().is_some_and(Vec::is_empty);
        demand.object = match domain {
            Some(domain) if !no_id => {
                let object = id.and_then(|parts| ObjectRef::new(&domain, parts).ok());
                Some(ObjectDemand { domain, object, mode })
            }
            None if no_id && mode.is_none() => None,
            _ => return Err(mistake("an object needs a domain and an id")),
        };
        Ok(demand)
    }
}

fn once(place: &mut Option<String>, what: &'static str, value: Option<Cow<'_, str>>) -> Result<()> {
    match place.replace(name(what, value)?) {
        None => Ok(()),
        Some(_) => Err(mistake("a key that is given twice").with("key", what)),
    }
}

fn name(what: &'static str, value: Option<Cow<'_, str>>) -> Result<String> {
    let value = value.ok_or_else(|| mistake("a value that can't be decoded").with("key", what))?;
    check_name(what, &value).map_err(|error| mistake("an impossible value").because(error))?;
    Ok(value.into_owned())
}

fn with_part(mut parts: Vec<Id>, text: &str) -> Option<Vec<Id>> {
    if parts.len() >= MAX_REPEATS || check_name("object", text).is_err() {
        return None;
    }
    // A number only if that is how the number is written: "007" and "+7" are texts.
    parts.push(Id::parse(text));
    Some(parts)
}

/// As much of a key as a log line can bear.
fn shown(key: &str) -> String {
    key.chars().take(40).flat_map(char::escape_debug).collect()
}

fn mistake(message: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, message).at("auth URL")
}

/// Undoes percent-encoding, and `+` for a blank; `None` if a percent sign stands alone or the text is not
/// UTF-8.
fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(value));
    }
    String::from_utf8(decode_bytes(value.as_bytes())?).ok().map(Cow::Owned)
}

/// Undoes percent-encoding, and `+` for a blank; `None` if a percent sign stands alone. Reserves once.
pub(crate) fn decode_bytes(value: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            _ => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_key_makes_no_endless_log_line() {
        let error = Demand::parse(Some(&"k\n".repeat(10_000))).unwrap_err();
        assert!(error.to_string().len() < 200 && !error.to_string().contains('\n'), "{error}");
    }
    use proptest::prelude::*;

    fn object(query: &str) -> ObjectDemand {
        Demand::parse(Some(query)).unwrap().object.unwrap()
    }

    fn mistaken(query: &str) {
        assert_eq!(Demand::parse(Some(query)).unwrap_err().kind(), ErrorKind::Misconfigured, "{query}");
    }

    #[test]
    fn a_url_without_a_query_demands_nothing() {
        for query in [None, Some(""), Some("&")] {
            assert_eq!(Demand::parse(query).unwrap(), Demand::default());
        }
    }

    #[test]
    fn every_key_is_read() {
        let query = "realm=wiki&group=staff&group=domain+users&group=a%2Bb%25&domain=doc&id=a%3Ab&mode=read";
        let demand = Demand::parse(Some(query)).unwrap();
        assert_eq!(demand.realm.as_deref(), Some("wiki"));
        assert_eq!(demand.groups, ["staff", "domain users", "a+b%"]);
        let object = demand.object.unwrap();
        assert_eq!(object.object, Some(ObjectRef::new("doc", [Id::from("a:b")]).unwrap()));
        assert_eq!(object.mode.as_deref(), Some("read"));
    }

    #[test]
    fn an_id_is_a_number_only_if_it_is_written_like_one() {
        for (text, id) in [
            ("7", Id::from(7)),
            ("-7", Id::from(-7)),
            ("9223372036854775807", Id::from(i64::MAX)),
            ("9223372036854775808", Id::from("9223372036854775808")),
            ("007", Id::from("007")),
            ("%2B7", Id::from("+7")),
            ("-0", Id::from("-0")),
            ("7.0", Id::from("7.0")),
        ] {
            let found = object(&format!("domain=doc&id={text}")).object;
            assert_eq!(found, Some(ObjectRef::new("doc", [id]).unwrap()), "{text}");
        }
    }

    #[test]
    fn repeated_ids_are_the_parts_of_one() {
        let page = ObjectRef::new("page", [Id::from("wiki"), Id::from(42)]).unwrap();
        assert_eq!(object("id=wiki&domain=page&id=42").object, Some(page));
    }

    #[test]
    fn an_id_that_a_client_spoiled_names_no_object() {
        let long = format!("domain=doc&id={}", "a".repeat(256));
        for query in [
            "domain=doc&id=",
            "domain=doc&id",
            "domain=doc&id=%00",
            "id=%zz&domain=doc",
            "id=1&id=&domain=doc",
            "id=&id=1&domain=doc",
            "domain=doc&id=%FF",
            &long,
        ] {
            assert_eq!(object(query).object, None, "{query}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_mistake() {
        let many = "group=a&".repeat(MAX_REPEATS + 1);
        for query in [
            "groups=staff",
            "Group=staff",
            "user=calvin",
            "=",
            "=x",
            "group",
            "group=",
            "group=%",
            "group=%f",
            "group=%zz",
            "group=%+1",
            "group=%ff",
            "group=a%00",
            "realm=a&realm=a",
            "realm=",
            "mode=read",
            "domain=doc",
            "id=1",
            "domain=doc&mode=read",
            "id=1&mode=read",
            "domain=doc&domain=doc&id=1",
            "domain=&id=1",
            "domain=doc&id=1&mode=",
            "domain=doc&id=1&mode=a&mode=a",
            "%67roup=a",
            &many,
        ] {
            mistaken(query);
        }
    }

    proptest! {
        #[test]
        fn no_query_panics_and_nothing_is_dropped(query in "([a-z&=%+0-9\u{e9}]|group=|domain=d|id=){0,24}") {
            if let Ok(demand) = Demand::parse(Some(&query)) {
                let groups = query.split('&').filter(|pair| pair.starts_with("group=")).count();
                prop_assert_eq!(demand.groups.len(), groups);
                let object = query.split('&').any(|pair| pair.starts_with("domain="));
                prop_assert_eq!(demand.object.is_some(), object);
            }
        }

        #[test]
        fn what_was_encoded_is_decoded(text in "\\PC{1,20}") {
            let mut encoded = String::new();
            crate::reply::push_escaped(&mut encoded, &text, |byte| byte.is_ascii_alphanumeric());
            let decoded = decode(&encoded);
            prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
        }
    }
}

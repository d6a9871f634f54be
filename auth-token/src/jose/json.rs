//! JSON without ambiguity: objects only, no name twice, a bounded depth, nothing behind.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// How deep lists and objects may be in each other. Claims of real issuers are four deep at most.
const MAX_DEPTH: usize = 32;
/// Up to so many members are compared with each other; with more, a set is used.
const FEW: usize = 16;

/// A value of JSON. What needs no unescaping is borrowed from the text.
#[derive(Debug)]
pub(crate) enum Node<'a> {
    Null,
    Bool,
    /// A whole number that is not negative.
    Whole(u64),
    /// Any other number.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    Object(Object<'a>),
}

/// The members of an object, in the order of the text; no name is there twice.
#[derive(Debug, Default)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Node<'a>)>);

impl<'a> Object<'a> {
    /// Reads an object; `None` if the text is anything else.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut from = serde_json::Deserializer::from_str(text);
        let node = Any { depth: 0 }.deserialize(&mut from).ok()?;
        from.end().ok()?;
        match node {
            Node::Object(object) => Some(object),
            _ => None,
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, node)| node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node<'a>)> {
        self.0.iter().map(|(name, node)| (name.as_ref(), node))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl Node<'_> {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Any {
    depth: usize,
}

impl Any {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Node<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Node<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node<'de>, E> {
        Ok(Node::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node<'de>, E> {
        // Only that it is negative matters.
        Ok(u64::try_from(number).map_or(Node::Number(-1.0), Node::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node<'de>, E> {
        Ok(Node::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node<'de>, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(node) = from.next_element_seed(deeper)? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node<'de>, A::Error> {
        let deeper = self.deeper()?;
        // The outermost is as large as claims are; within it, room is made only for what comes.
        let room = if self.depth == 0 { 12 } else { 0 };
        let mut members: Vec<(Cow<'de, str>, Node<'de>)> = Vec::with_capacity(room);
        let mut many: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(name) = from.next_key_seed(Name)? {
            let twice = if members.len() < FEW {
                members.iter().any(|(other, _)| *other == name)
            } else {
                if many.is_empty() {
                    many.extend(members.iter().map(|(name, _)| name.clone()));
                }
                !many.insert(name.clone())
            };
            if twice {
                return Err(A::Error::custom("a name twice"));
            }
            members.push((name, from.next_value_seed(deeper)?));
        }
        Ok(Node::Object(Object(members)))
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_there_twice_is_refused_at_any_depth_and_in_any_number() {
        assert!(Object::parse(r#"{"a":1,"b":{"a":1}}"#).is_some());
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, r#"{"b":[{"a":1,"c":2,"a":1}]}"#] {
            assert!(Object::parse(text).is_none(), "{text}");
        }
        let many: Vec<String> = (0..200).map(|n| format!("\"{n}\":{n}")).collect();
        assert!(Object::parse(&format!("{{{}}}", many.join(","))).is_some());
        for twice in [0, 15, 16, 17, 199] {
            let text = format!("{{{},\"{twice}\":0}}", many.join(","));
            assert!(Object::parse(&text).is_none(), "{twice}");
        }
    }

    #[test]
    fn only_one_object_and_only_so_deep() {
        for text in [
            "",
            "1",
            "[]",
            "null",
            "\"a\"",
            "{} {}",
            "{}x",
            "\u{feff}{}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":NaN}",
        ] {
            assert!(Object::parse(text).is_none(), "{text}");
        }
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(Object::parse(&nested(MAX_DEPTH - 1)).is_some());
        assert!(Object::parse(&nested(MAX_DEPTH)).is_none());
        assert!(Object::parse(&nested(100_000)).is_none());
    }
}

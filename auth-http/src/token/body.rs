//! What a request says: JSON or a form, bounded, and nothing twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::answer::Fault;
use crate::demand::decode_bytes;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Form,
    /// Nothing is said, so nothing must be there.
    None,
}

impl Media {
    /// Reads the header `Content-Type`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let coded = headers.get_all(CONTENT_ENCODING).iter();
        if coded.map(|value| value.as_bytes()).any(|value| !value.eq_ignore_ascii_case(b"identity")) {
            return Err(Fault::media_type());
        }
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = values.next() else { return Ok(Self::None) };
        let value = value.to_str().ok().filter(|_| values.next().is_none()).ok_or_else(Fault::media_type)?;
        let (name, parameters) = value.split_once(';').unwrap_or((value, ""));
        if !parameters.split(';').all(is_utf8) {
            return Err(Fault::media_type());
        }
        let name = name.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("application/json") {
            Ok(Self::Json)
        } else if name.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Ok(Self::Form)
        } else {
            Err(Fault::media_type())
        }
    }
}

/// Reports whether a parameter of a media type leaves it UTF-8: others than the character set mean nothing.
fn is_utf8(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
}

/// Reads a body of at most `max` bytes. It is wiped when it is dropped.
pub(crate) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let said = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > max) {
        return Err(Fault::too_large());
    }
    // Reserved at once, so that no copy of a password is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(said.unwrap_or(max)));
    let mut body = body;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Fault::request("the body broke off"))?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > max - bytes.len() {
            return Err(Fault::too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// What stands under a name.
enum Given {
    Text(Zeroizing<Vec<u8>>),
    Flag(bool),
    /// A null, a number, a list, an object.
    Other,
}

/// The members of an object, or the fields of a form. Prints none of them.
pub(crate) struct Fields {
    given: BTreeMap<String, Given>,
    media: Media,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fields(..)")
    }
}

impl Fields {
    /// Those of a request without a body.
    pub(crate) const fn none() -> Self {
        Self { given: BTreeMap::new(), media: Media::None }
    }

    /// Reads a body. Unknown names are let pass, names given twice are not.
    pub(crate) fn parse(media: Media, bytes: &[u8]) -> Result<Self, Fault> {
        let given = match media {
            // Many clients name a type also of a body that they do not send.
            _ if bytes.is_empty() => BTreeMap::new(),
            Media::Json => json(bytes)?,
            Media::Form => form(bytes)?,
            Media::None => return Err(Fault::media_type()),
        };
        Ok(Self { given, media })
    }

    /// Returns the text of a name. An empty one counts as not given (RFC 6749, 3.2).
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        let Some(given) = self.given.get(name) else { return Ok(None) };
        let Given::Text(bytes) = given else { return Err(not_text()) };
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::request("a field is not UTF-8"))?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// Takes what stands under a name, byte for byte. An empty one counts as not given.
    pub(crate) fn take_bytes(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        match self.given.remove(name) {
            None => Ok(None),
            Some(Given::Text(bytes)) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Some(_) => Err(not_text()),
        }
    }

    /// Returns a yes or no.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        let wrong = || Fault::request("a field must be true or false");
        match self.given.get(name) {
            None => Ok(None),
            Some(Given::Flag(flag)) => Ok(Some(*flag)),
            Some(Given::Text(bytes)) if self.media == Media::Form => match bytes.as_slice() {
                b"" => Ok(None),
                b"true" | b"1" | b"on" => Ok(Some(true)),
                b"false" | b"0" | b"off" => Ok(Some(false)),
                _ => Err(wrong()),
            },
            Some(_) => Err(wrong()),
        }
    }
}

fn not_text() -> Fault {
    Fault::request("a field must be a text")
}

fn form(bytes: &[u8]) -> Result<BTreeMap<String, Given>, Fault> {
    let broken = || Fault::request("the form can't be decoded");
    let mut given = BTreeMap::new();
    for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(equals).unwrap_or((pair, &[]));
        let name = decode_bytes(name).and_then(|name| String::from_utf8(name).ok()).ok_or_else(broken)?;
        let value =
            decode_bytes(value.get(1..).unwrap_or_default()).map(Zeroizing::new).ok_or_else(broken)?;
        match given.entry(name) {
            Entry::Vacant(place) => place.insert(Given::Text(value)),
            Entry::Occupied(_) => return Err(Fault::request("a field is given twice")),
        };
    }
    Ok(given)
}

fn json(bytes: &[u8]) -> Result<BTreeMap<String, Given>, Fault> {
    let object: Object = serde_json::from_slice(bytes).map_err(|_| {
        // Without its text: that could quote what was sent.
        Fault::request("the body is not one JSON object with each member once")
    })?;
    Ok(object.0)
}

struct Object(BTreeMap<String, Given>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut given = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Given>()? {
            if given.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is given twice"));
            }
        }
        Ok(Object(given))
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_str<E>(self, text: &str) -> Result<Given, E> {
        Ok(Given::Text(Zeroizing::new(text.as_bytes().to_vec())))
    }
    fn visit_string<E>(self, text: String) -> Result<Given, E> {
        Ok(Given::Text(Zeroizing::new(text.into_bytes())))
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Given, E> {
        Ok(Given::Flag(flag))
    }
    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Other)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Given, E> {
        Ok(Given::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Given, E> {
        Ok(Given::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
        Ok(Given::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn media(value: &str) -> Option<Media> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        Media::of(&headers).ok()
    }

    #[test]
    fn a_body_is_json_or_a_form_in_utf_8() {
        for good in [
            "application/json",
            "Application/JSON ; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/json;",
        ] {
            assert_eq!(media(good), Some(Media::Json), "{good}");
        }
        assert_eq!(media("application/x-www-form-urlencoded;a=b"), Some(Media::Form));
        assert_eq!(Media::of(&HeaderMap::new()).ok(), Some(Media::None));
        for other in [
            "",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/json, text/plain",
            "application/problem+json",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "\u{e9}",
        ] {
            assert_eq!(media(other), None, "{other}");
        }
    }

    #[test]
    fn two_media_types_and_packed_bodies_are_not_read() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(Media::of(&headers).is_ok());
        headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(Media::of(&headers).is_err());
        headers.remove(CONTENT_TYPE);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(Media::of(&headers).is_err());
    }

    fn fields(media: Media, text: &str) -> Result<Fields, &'static str> {
        Fields::parse(media, text.as_bytes()).map_err(|fault| fault.description)
    }

    #[test]
    fn members_are_texts_or_flags_and_nothing_becomes_another() {
        let text = r#" {"a":"x","e":"","n":null,"i":1,"f":1.5,"l":["x"],"o":{"a":1,"a":2},"t":true,"u":"\u00e9\u0000"} "#;
        let mut fields = fields(Media::Json, text).unwrap();
        assert_eq!(fields.text("a").unwrap(), Some("x"));
        assert_eq!(fields.text("u").unwrap(), Some("\u{e9}\0"));
        assert_eq!(fields.text("e").unwrap(), None);
        assert_eq!(fields.text("missing").unwrap(), None);
        assert_eq!(fields.flag("t").unwrap(), Some(true));
        for other in ["a", "n", "i"] {
            assert!(fields.flag(other).is_err(), "{other}");
        }
        for other in ["n", "i", "f", "l", "o", "t"] {
            assert!(fields.text(other).is_err(), "{other}");
            assert!(fields.take_bytes(other).is_err(), "{other}");
        }
        assert_eq!(fields.take_bytes("a").unwrap(), Some(b"x".to_vec().into()));
        assert_eq!(format!("{fields:?}"), "Fields(..)");
    }

    #[test]
    fn a_form_is_decoded_strictly_and_byte_for_byte() {
        let mut fields = fields(Media::Form, "a=x+y%2B&b=%ff%00&&c&d=a=b&caf%C3%A9=1&t=on&w=x").unwrap();
        assert_eq!(fields.text("a").unwrap(), Some("x y+"));
        assert_eq!(fields.take_bytes("b").unwrap(), Some(vec![0xff, 0].into()));
        assert_eq!(fields.text("c").unwrap(), None);
        assert_eq!(fields.text("d").unwrap(), Some("a=b"));
        assert_eq!(fields.text("caf\u{e9}").unwrap(), Some("1"));
        assert_eq!(fields.flag("t").unwrap(), Some(true));
        assert_eq!(fields.flag("c").unwrap(), None);
        assert!(fields.flag("w").is_err());
        for broken in ["a=%", "a=%f", "a=%zz", "%ff=1", "a=%+1"] {
            assert!(form(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn nothing_is_given_twice() {
        for text in [r#"{"a":"x","a":"x"}"#, r#"{"a":"x","\u0061":"y"}"#, r#"{"?":1,"?":2}"#] {
            assert!(fields(Media::Json, text).is_err(), "{text}");
        }
        for text in ["a=1&a=1", "a=1&%61=2", "a&a"] {
            assert_eq!(fields(Media::Form, text).unwrap_err(), "a field is given twice", "{text}");
        }
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        let deep = format!("{{\"a\":{}1", "[".repeat(8_000));
        for text in [
            "null",
            "[]",
            "\"a\"",
            "{",
            "{}x",
            "{\"a\":\"\\ud800\"}",
            "{a:1}",
            "\u{feff}{}",
            "{\"a\":1,}",
            &deep,
        ] {
            assert!(fields(Media::Json, text).is_err(), "{text}");
        }
        for media in [Media::None, Media::Json, Media::Form] {
            assert!(fields(media, "").unwrap().given.is_empty());
        }
        assert!(fields(Media::None, "a=b").is_err());
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit_whatever_it_says_of_itself() {
        let none = HeaderMap::new();
        assert_eq!(read(&none, Body::from("12345"), 5).await.unwrap().as_slice(), b"12345");
        let status = |fault: Fault| fault.status.as_u16();
        assert_eq!(status(read(&none, Body::from("123456"), 5).await.unwrap_err()), 413);
        let mut said = HeaderMap::new();
        said.insert(CONTENT_LENGTH, HeaderValue::from_static("6"));
        assert_eq!(status(read(&said, Body::empty(), 5).await.unwrap_err()), 413);
        said.insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
        assert_eq!(status(read(&said, Body::from("123456"), 5).await.unwrap_err()), 413);
        said.insert(CONTENT_LENGTH, HeaderValue::from_static("many"));
        assert!(read(&said, Body::from("12345"), 5).await.is_ok());
    }

    proptest! {
        #[test]
        fn a_form_reads_back_as_it_was_written(pairs in prop::collection::btree_map(".{1,8}", prop::collection::vec(any::<u8>(), 1..12), 0..6)) {
            let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let text: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name.as_bytes()), escape(value))).collect();
            let mut read = fields(Media::Form, &text.join("&")).unwrap();
            for (name, value) in pairs {
                prop_assert_eq!(read.take_bytes(&name).unwrap(), Some(value.into()));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            for media in [Media::Json, Media::Form, Media::None] {
                if let Ok(mut fields) = Fields::parse(media, &bytes) {
                    let names: Vec<_> = fields.given.keys().cloned().collect();
                    for name in names {
                        let _ = fields.text(&name).is_ok();
                        let _ = fields.flag(&name).is_ok();
                        let _ = fields.take_bytes(&name).is_ok();
                    }
                }
            }
        }
    }
}

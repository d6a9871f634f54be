//! The cookie of a refresh token, and what keeps other sites from using it.

use std::time::Duration;

use axum::http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::http::request::Parts;

use crate::config::{FrontConfig, host_and_port};

/// The prefix binds it to this host alone (RFC 6265bis, 4.1.3.2): no other host can set or read one of this name.
pub(crate) const NAME: &str = "__Host-rt";

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// There is more than one cookie of the name, which no browser sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

/// Finds the refresh token among the cookies of a request. An empty one is none.
pub(crate) fn find(headers: &HeaderMap) -> Result<Option<&str>, Repeated> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(value) = pair.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            else {
                continue;
            };
            // What is no text is no token either; it is there all the same.
            if found.replace(std::str::from_utf8(value).unwrap_or("?")).is_some() {
                return Err(Repeated);
            }
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// Makes the cookie of a refresh token that is good for this long.
pub(crate) fn keep(token: &str, life: Duration) -> Option<HeaderValue> {
    let text = format!("{NAME}={token}; {ATTRIBUTES}; Max-Age={}", life.as_secs());
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Makes the cookie that takes its place when it is no longer needed.
pub(crate) fn clear() -> HeaderValue {
    HeaderValue::from_static("__Host-rt=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Tells why a request may have been made by another site, if it may.
///
/// A browser says itself who made it (`Sec-Fetch-Site`); where it does not, the request must carry a header that no page of
/// another site can add without being asked for (`X-Requested-With`). `Origin`, where present, must be this host.
pub(crate) fn foreign(parts: &Parts, front: &FrontConfig) -> Option<&'static str> {
    let mut sites = parts.headers.get_all(&FETCH_SITE).iter();
    let vouched = match (sites.next().map(HeaderValue::as_bytes), sites.next()) {
        (None, _) => false,
        (Some(b"same-origin" | b"none"), None) => true,
        _ => return Some("cross_site"),
    };
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => {}
        (Some(origin), None) if is_here(origin, front.host_of(parts), vouched) => {}
        _ => return Some("foreign_origin"),
    }
    let asked = parts.headers.get(&REQUESTED_WITH).is_some_and(|value| !value.is_empty());
    (!vouched && !asked).then_some("no_csrf_defence")
}

/// Reports whether an origin is the host that was asked. The port counts only where the browser does not vouch for it: many
/// proxies take it out of `Host`.
fn is_here(origin: &HeaderValue, host: Option<&[u8]>, vouched: bool) -> bool {
    let here = || {
        let (scheme, origin) = origin.to_str().ok()?.split_once("://")?;
        let usual = match scheme {
            "https" => "443",
            "http" => "80",
            _ => return None,
        };
        let or_usual = |port: &str| if port.is_empty() { usual.to_owned() } else { port.to_owned() };
        let (origin, origin_port) = host_and_port(origin)?;
        let (host, port) = host_and_port(std::str::from_utf8(host?).ok()?)?;
        Some(origin == host && (vouched || or_usual(origin_port) == or_usual(port)))
    };
    here().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use proptest::prelude::*;

    fn found(lines: &[&[u8]]) -> Result<Option<String>, Repeated> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        find(&headers).map(|value| value.map(str::to_owned))
    }

    #[test]
    fn the_cookie_is_found_among_others_by_its_exact_name() {
        let token = Ok(Some("gpr_x".to_owned()));
        assert_eq!(found(&[b"__Host-rt=gpr_x"]), token);
        assert_eq!(found(&[b"a=b; __Host-rt=gpr_x;c"]), token);
        assert_eq!(found(&[b"a=b", b"\xff=\xfe", b" __Host-rt=gpr_x "]), token);
        for none in [
            &b"__host-rt=x"[..],
            b"__Host-rt",
            b"__Host-rt2=x",
            b"x__Host-rt=x",
            b"rt=x",
            b"__Host-rt =x",
            b"__Host-rt=",
            b"a=__Host-rt=x",
        ] {
            assert_eq!(found(&[none]), Ok(None));
        }
        assert_eq!(found(&[]), Ok(None));
    }

    #[test]
    fn two_cookies_of_the_name_are_refused_even_if_they_are_the_same() {
        assert_eq!(found(&[b"__Host-rt=x; __Host-rt=x"]), Err(Repeated));
        assert_eq!(found(&[b"__Host-rt=x", b"a=b; __Host-rt=y"]), Err(Repeated));
        assert_eq!(found(&[b"__Host-rt=x; __Host-rt=\xff"]), Err(Repeated));
        assert_eq!(found(&[b"__Host-rt=; __Host-rt="]), Err(Repeated));
    }

    #[test]
    fn a_cookie_is_cleared_with_the_name_and_the_attributes_that_it_was_made_with() {
        let kept = keep("gpr_x", Duration::from_millis(60_999)).unwrap();
        assert!(kept.is_sensitive());
        assert_eq!(kept, format!("{NAME}=gpr_x; {ATTRIBUTES}; Max-Age=60"));
        assert_eq!(clear(), format!("{NAME}=; {ATTRIBUTES}; Max-Age=0"));
        for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(ATTRIBUTES.split("; ").any(|each| each == attribute), "{attribute}");
        }
        assert_eq!(keep("x\r\ny: z", Duration::ZERO), None);
    }

    fn check(headers: &[(&str, &str)], verdict: Option<&str>) {
        let mut request = Request::builder().uri("/renew").header("host", "app.example.com");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        assert_eq!(foreign(&parts, &FrontConfig::new("default")), verdict, "{headers:?}");
    }

    #[test]
    fn a_request_is_believed_if_the_browser_vouches_or_a_header_shows_that_no_other_site_made_it() {
        check(&[("sec-fetch-site", "same-origin")], None);
        check(&[("sec-fetch-site", "none")], None);
        check(&[("x-requested-with", "fetch")], None);
        check(&[], Some("no_csrf_defence"));
        check(&[("x-requested-with", "")], Some("no_csrf_defence"));
        check(&[("origin", "https://app.example.com")], Some("no_csrf_defence"));
        for site in ["cross-site", "same-site", "", "Same-Origin", "same-origin, none"] {
            check(&[("sec-fetch-site", site), ("x-requested-with", "x")], Some("cross_site"));
        }
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        check(&twice, Some("cross_site"));
    }

    #[test]
    fn an_origin_must_be_the_host_that_is_asked() {
        let with = |origin: &'static str| [("x-requested-with", "x"), ("origin", origin)];
        for here in ["https://app.example.com", "https://APP.example.com:443", "http://app.example.com:80"] {
            check(&with(here), None);
        }
        let elsewhere = [
            "null",
            "",
            "app.example.com",
            "https://example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.com",
            "https://evil.com/app.example.com",
            "https://app.example.com@evil.com",
            "ftp://app.example.com",
            "http://app.example.com:443",
        ];
        for origin in elsewhere {
            check(&with(origin), Some("foreign_origin"));
        }
        let both = [
            ("origin", "https://app.example.com"),
            ("origin", "https://evil.com"),
            ("x-requested-with", "x"),
        ];
        check(&both, Some("foreign_origin"));
        check(&[("sec-fetch-site", "same-origin"), ("origin", "https://app.example.com:8443")], None);
        check(&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.com")], Some("foreign_origin"));
    }

    proptest! {
        #[test]
        fn no_cookies_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..48), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in lines {
                if let Ok(line) = HeaderValue::from_bytes(&line) {
                    headers.append(COOKIE, line);
                }
            }
            let _ = find(&headers);
        }
    }
}

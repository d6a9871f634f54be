//! What an operator sets: realms by host, and which peers may name the host and the client.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use axum::extract::ConnectInfo;
use axum::http::header::{HOST, HeaderName, HeaderValue};
use axum::http::request::Parts;
use ipnet::IpNet;

/// The longest `Authorization` header by default, in bytes.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

const MAX_HOST_BYTES: usize = 255;
/// The most proxies that are followed back to a client.
const MAX_HOPS: usize = 16;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
// CGI and its heirs read this as the same header; whoever sends it hopes that somebody does.
const FORWARDED_HOST_TWIN: HeaderName = HeaderName::from_static("x_forwarded_host");

/// The settings of the front end.
///
/// ```
/// use auth_http::FrontConfig;
/// let config = FrontConfig::new("default")
///     .with_host("wiki.example.com", "wiki")?
///     .with_trusted_proxy("10.0.0.0/8")?
///     .with_trusted_proxy("::1")?;
/// assert!(config.with_host("not a host", "wiki").is_err());
/// # Ok::<(), auth_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrontConfig {
    default_realm: String,
    hosts: BTreeMap<String, String>,
    trusted_proxies: Vec<IpNet>,
    trusts_unnamed_peers: bool,
    max_header_bytes: usize,
    limit: Duration,
}

impl FrontConfig {
    /// Makes the settings with the realm of all requests that choose no other; nobody is a trusted proxy.
    #[must_use]
    pub fn new(default_realm: impl Into<String>) -> Self {
        Self {
            default_realm: default_realm.into(),
            hosts: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            trusts_unnamed_peers: false,
            max_header_bytes: MAX_HEADER_BYTES,
            limit: Duration::from_secs(10),
        }
    }

    /// Gives a host its realm. Hosts are compared without case, port and final dot.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if this is no host, or the host has a realm already.
    pub fn with_host(mut self, host: &str, realm: impl Into<String>) -> Result<Self> {
        let Some(name) = host_name(host) else {
            let message = "this is no host; write international names in their xn-- form";
            return Err(Error::new(ErrorKind::Invalid, message).with("host", host.escape_debug()));
        };
        if self.hosts.contains_key(&name) {
            return Err(Error::new(ErrorKind::Invalid, "the host has two realms").with("host", name));
        }
        self.hosts.insert(name, realm.into());
        Ok(self)
    }

    /// Trusts the `X-Forwarded-Host` and `X-Forwarded-For` of a peer: an address, or a network as `10.0.0.0/8`.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if this is neither.
    pub fn with_trusted_proxy(mut self, peers: &str) -> Result<Self> {
        let net = peers
            .parse::<IpNet>()
            .or_else(|_| peers.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())))
            .map_err(|_| {
                Error::new(ErrorKind::Invalid, "this is neither an address nor a network")
                    .with("proxy", peers.escape_debug())
            })?;
        self.trusted_proxies.push(net);
        Ok(self)
    }

    /// Trusts the `X-Forwarded-Host` and `X-Forwarded-For` of peers without an address: those of a unix socket.
    ///
    /// Only for a router that is served on nothing but unix sockets: a TCP server that was not made with
    /// `into_make_service_with_connect_info::<SocketAddr>` shows no addresses either.
    #[must_use]
    pub const fn with_trusted_unix_peers(mut self) -> Self {
        self.trusts_unnamed_peers = true;
        self
    }

    /// Sets the longest `Authorization` header; [`MAX_HEADER_BYTES`] otherwise.
    #[must_use]
    pub const fn with_max_header_bytes(mut self, bytes: usize) -> Self {
        self.max_header_bytes = bytes;
        self
    }

    /// Sets the longest that one request may take; 10 s otherwise.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Goes through the names of all realms that requests may be sent to, to check them at start.
    pub fn realms(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.default_realm).chain(self.hosts.values()).map(String::as_str)
    }

    pub(crate) const fn max_header_bytes(&self) -> usize {
        self.max_header_bytes
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Names the realm of a request that does not choose one itself, or says why the request is refused.
    pub(crate) fn realm_of(&self, parts: &Parts) -> std::result::Result<&str, &'static str> {
        if self.hosts.is_empty() {
            return Ok(&self.default_realm);
        }
        let Some(host) = self.host_of(parts) else { return Ok(&self.default_realm) };
        let host = std::str::from_utf8(host).ok().and_then(host_name).ok_or("unreadable_host")?;
        Ok(self.hosts.get(&host).unwrap_or(&self.default_realm))
    }

    /// Returns the host of a request as it is written.
    pub(crate) fn host_of<'a>(&self, parts: &'a Parts) -> Option<&'a [u8]> {
        match parts.headers.get(&FORWARDED_HOST) {
            Some(forwarded) if self.trusts_peer_of(parts) => Some(forwarded.as_bytes()),
            // HTTP/2 sends the host with the target.
            _ => (parts.headers.get(&HOST).map(HeaderValue::as_bytes))
                .or_else(|| parts.uri.authority().map(|authority| authority.as_str().as_bytes())),
        }
    }

    /// Tells from which address a request comes: the peer's, or what trusted proxies say in `X-Forwarded-For`, the last
    /// address there that is none of theirs. An address of this machine where nobody says.
    pub(crate) fn client_of(&self, parts: &Parts) -> IpAddr {
        let mut client = peer_of(parts).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if !self.trusts_peer_of(parts) {
            return client;
        }
        // From behind: each proxy adds whom it heard, and what stands before that anybody may have written.
        let lines: Vec<&HeaderValue> = parts.headers.get_all(&FORWARDED_FOR).iter().collect();
        let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            let Some(address) = address_of(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.is_trusted(client) {
                break;
            }
        }
        client
    }

    fn trusts_peer_of(&self, parts: &Parts) -> bool {
        peer_of(parts).map_or(self.trusts_unnamed_peers, |peer| self.is_trusted(peer))
    }

    fn is_trusted(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}

/// Reads an address that a proxy has written: some add the port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The address of the peer; nothing for one of a unix socket.
fn peer_of(parts: &Parts) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
    Some(peer.ip().to_canonical())
}

/// Says what is wrong with the headers that name the host, whoever sent them and whether or not they are used.
pub(crate) fn smuggled(parts: &Parts) -> Option<&'static str> {
    if parts.headers.contains_key(&FORWARDED_HOST_TWIN) {
        return Some("underscore_twin");
    }
    let repeated = |name: &HeaderName| parts.headers.get_all(name).iter().nth(1).is_some();
    (repeated(&FORWARDED_HOST) || repeated(&HOST)).then_some("repeated_host")
}

/// Brings a host to the form in which hosts are compared.
fn host_name(text: &str) -> Option<String> {
    host_and_port(text).map(|(name, _)| name)
}

/// Reads a host in the form in which hosts are compared, and its port: empty if there is none.
pub(crate) fn host_and_port(text: &str) -> Option<(String, &str)> {
    if text.len() > MAX_HOST_BYTES {
        return None;
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            (address.to_string(), rest)
        }
        None => {
            let (name, port) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
            let name = name.strip_suffix('.').unwrap_or(name);
            let possible = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if name.split('.').any(str::is_empty) || !name.bytes().all(possible) {
                return None;
            }
            (name.to_ascii_lowercase(), port)
        }
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, name: Option<&str>) {
        assert_eq!(host_name(text).as_deref(), name, "{text:?}");
    }

    #[test]
    fn hosts_are_compared_without_case_port_and_final_dot() {
        check("wiki.example.com", Some("wiki.example.com"));
        check("WIKI.Example.com.:8443", Some("wiki.example.com"));
        check("localhost:", Some("localhost"));
        check("192.0.2.1:80", Some("192.0.2.1"));
        check("[2001:DB8::0:1]:443", Some("2001:db8::1"));
        check("[::1]", Some("::1"));
    }

    #[test]
    fn a_client_is_the_last_address_that_no_trusted_proxy_has() {
        let config = FrontConfig::new("default").with_trusted_proxy("10.0.0.0/8").unwrap();
        let client = |config: &FrontConfig, peer: Option<&str>, lines: &[&str]| {
            let mut request = axum::http::Request::new(());
            for line in lines {
                request.headers_mut().append(&FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            if let Some(peer) = peer {
                let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            config.client_of(&request.into_parts().0).to_string()
        };
        let of = |peer, lines: &[&str]| client(&config, Some(peer), lines);
        assert_eq!(of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "anybody may write that");
        assert_eq!(of("::ffff:192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["6.6.6.6", "198.51.100.7", "10.0.0.2"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["6.6.6.6, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7:4711, [2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["[2001:db8::2]"]), "2001:db8::2");
        let forged = "6.6.6.6,".repeat(100) + "198.51.100.7";
        assert_eq!(of("10.0.0.1", &[&forged]), "198.51.100.7");
        assert_eq!(client(&config, None, &["198.51.100.7"]), "127.0.0.1");
        let unix = config.clone().with_trusted_unix_peers();
        assert_eq!(client(&unix, None, &["198.51.100.7"]), "198.51.100.7");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            ".",
            "a..",
            ".a",
            "a..b",
            ":80",
            "a b",
            "a,b",
            "a, b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "caf\u{e9}",
            "[::1",
            "[]",
            "[::g]",
            "[::1]x",
            "::1",
            "a\0",
            &long,
        ] {
            check(text, None);
        }
        let config = FrontConfig::new("default");
        assert_eq!(config.with_host("a b", "x").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_host_has_one_realm() {
        let config = FrontConfig::new("default").with_host("a.example", "a").unwrap();
        assert_eq!(config.realms().collect::<Vec<_>>(), ["default", "a"]);
        assert_eq!(config.with_host("A.example.:80", "b").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_network() {
        for good in ["127.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32"] {
            assert!(FrontConfig::new("default").with_trusted_proxy(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", "10.0.0.0/33", "10.0.0", "127.0.0.1:80", "10.0.0.0/-1"] {
            let refused = FrontConfig::new("default").with_trusted_proxy(bad);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_host_panics_and_a_normal_form_is_its_own(text in "\\PC{0,40}") {
            if let Some(name) = host_name(&text) {
                let again = if name.contains(':') { format!("[{name}]") } else { name.clone() };
                prop_assert_eq!(host_name(&again), Some(name));
            }
        }
    }
}

//! One connection: how it is made, and the three things that are asked on it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auth_core::{Error, ErrorKind, Result};
use ldap3::controls::{PagedResults, RawControl};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, ResultEntry, Scope, SearchOptions, StdStream};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::{Identity, Place, Tls, TlsConfig};
use crate::fault::{self, Answer, PPOLICY, wrong};

/// A connection. Ends when it is dropped, also for those who still wait for an answer.
pub(crate) struct Conn {
    ldap: Ldap,
    driver: AbortHandle,
    /// Which of the servers it leads to.
    pub(crate) server: usize,
    retired: AtomicBool,
    pub(crate) made: Instant,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) base: &'a str,
    pub(crate) scope: Scope,
    pub(crate) filter: &'a str,
    pub(crate) attributes: &'a [String],
    /// The most entries that are wanted.
    pub(crate) limit: usize,
    /// Entries a page; by default all come at once.
    pub(crate) page: Option<u32>,
}

/// An entry: its name and attributes, the latter by their names in small letters.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be hashes.
        let names: Vec<&str> = self.attributes.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Entry").field("dn", &self.dn).field("attributes", &names).finish()
    }
}

impl Entry {
    /// Reads an entry of the client library; what is no entry is nothing.
    fn read(entry: ResultEntry) -> Option<Self> {
        let mut parts = entry.0.match_id(4)?.expect_constructed()?.into_iter();
        let dn = String::from_utf8(parts.next()?.expect_primitive()?).ok()?;
        let mut attributes = Vec::new();
        for attribute in parts.next()?.expect_constructed()? {
            let mut parts = attribute.expect_constructed()?.into_iter();
            let name = String::from_utf8(parts.next()?.expect_primitive()?).ok()?.to_ascii_lowercase();
            let values = parts.next()?.expect_constructed()?.into_iter();
            attributes.push((
                name,
                values.map(lber::structure::StructureTag::expect_primitive).collect::<Option<_>>()?,
            ));
        }
        Some(Self { dn, attributes })
    }

    #[cfg(test)]
    pub(crate) fn made(dn: &str, attributes: &[(&str, &str)]) -> Self {
        let attribute = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![value.as_bytes().to_vec()]);
        Self { dn: dn.to_owned(), attributes: attributes.iter().map(attribute).collect() }
    }

    /// Lists the names of the attributes.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.attributes.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the values of an attribute; that of a name with options has those only.
    pub(crate) fn values(&self, attribute: &str) -> &[Vec<u8>] {
        let found = self.attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
        found.map_or(&[], |(_, values)| values)
    }

    /// Returns the values that are texts.
    pub(crate) fn texts(&self, attribute: &str) -> impl Iterator<Item = &str> {
        self.values(attribute).iter().filter_map(|value| str::from_utf8(value).ok())
    }

    /// Returns the first text.
    pub(crate) fn text(&self, attribute: &str) -> Option<&str> {
        self.texts(attribute).next()
    }
}

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entries: Vec<Entry>,
    /// Whether the server says that more may be elsewhere.
    pub(crate) referred: bool,
    pub(crate) answer: Answer,
}

impl AsRef<Answer> for Found {
    fn as_ref(&self) -> &Answer {
        &self.answer
    }
}

impl Conn {
    /// Connects and logs in.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) or [`Misconfigured`](ErrorKind::Misconfigured). The caller limits the
    /// time.
    pub(crate) async fn open(
        place: &Place,
        server: usize,
        tls: Option<&Arc<ClientConfig>>,
        identity: &Identity,
    ) -> Result<Self> {
        let (driver, ldap) = dial(place, tls).await?;
        // What a lost connection says, those who wait for it hear.
        let driver = tokio::spawn(async move { drop(driver.drive().await) }).abort_handle();
        let conn = Self { ldap, driver, server, retired: AtomicBool::new(false), made: Instant::now() };
        let answer = match identity {
            Identity::Nobody => return Ok(conn),
            Identity::Account { dn, password } => conn.ldap.clone().simple_bind(dn, password).await,
            Identity::External => conn.ldap.clone().sasl_external_bind().await,
        };
        fault::of_service_bind(&Answer::of(answer.map_err(fault::of_client)?))?;
        Ok(conn)
    }

    /// Reports whether it can be used, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Acquire) && !self.ldap.clone().is_closed()
    }

    /// Lets nobody else use it. Those who do go on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Searches. The caller limits the time of the whole.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the connection is lost. What the server answers is for the caller
    /// to read.
    pub(crate) async fn search(&self, query: &Query<'_>, limit: Duration) -> Result<Found> {
        let mut found = Found { entries: Vec::new(), referred: false, answer: Answer::none() };
        let mut cookie = Vec::new();
        loop {
            let page =
                query.page.map(|size| PagedResults { size: i32::try_from(size).unwrap_or(i32::MAX), cookie });
            self.part(query, page, limit, &mut found).await?;
            cookie = match found.answer.control(ldap3_paged()).and_then(crate::ber::cookie) {
                Some(next)
                    if !next.is_empty() && found.answer.code == 0 && found.entries.len() <= query.limit =>
                {
                    next
                }
                _ => return Ok(found),
            };
        }
    }

    async fn part(
        &self,
        query: &Query<'_>,
        page: Option<PagedResults>,
        limit: Duration,
        found: &mut Found,
    ) -> Result<()> {
        let mut ldap = self.ldap.clone();
        let seconds = limit.as_secs().saturating_add(1);
        let mut options = SearchOptions::new().timelimit(i32::try_from(seconds).unwrap_or(i32::MAX));
        match page {
            Some(page) => drop(ldap.with_controls(RawControl::from(page))),
            None => options = options.sizelimit(i32::try_from(query.limit).unwrap_or(i32::MAX)),
        }
        let attributes: Vec<&str> = query.attributes.iter().map(String::as_str).collect();
        ldap.with_search_options(options);
        let mut stream = ldap
            .streaming_search(query.base, query.scope, query.filter, attributes)
            .await
            .map_err(fault::of_client)?;
        while let Some(item) = stream.next().await.map_err(fault::of_client)? {
            if item.is_ref() {
                found.referred = true;
            } else if !item.is_intermediate() {
                let entry = Entry::read(item);
                found.entries.push(
                    entry.ok_or_else(|| {
                        Error::new(ErrorKind::Corrupt, "an entry of the server can't be read")
                    })?,
                );
            }
        }
        found.answer = Answer::of(stream.finish().await);
        Ok(())
    }

    /// Tries a password. From now on the connection is that person's.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the connection is lost.
    pub(crate) async fn bind(&self, dn: &str, password: &str) -> Result<Answer> {
        if dn.is_empty() || password.is_empty() {
            // It would be an anonymous login, which succeeds for everybody.
            return Err(Error::new(ErrorKind::Internal, "an empty name or password was about to be sent"));
        }
        let mut ldap = self.ldap.clone();
        let policy = RawControl { ctype: PPOLICY.to_owned(), crit: false, val: None };
        ldap.with_controls(policy);
        ldap.simple_bind(dn, password).await.map(Answer::of).map_err(fault::of_client)
    }

    /// Compares a value.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the connection is lost.
    pub(crate) async fn compare(&self, dn: &str, attribute: &str, value: &[u8]) -> Result<Answer> {
        let mut ldap = self.ldap.clone();
        ldap.compare(dn, attribute, value).await.map(|result| Answer::of(result.0)).map_err(fault::of_client)
    }
}

/// The control of paged results.
const fn ldap3_paged() -> &'static str {
    "1.2.840.113556.1.4.319"
}

async fn dial(place: &Place, tls: Option<&Arc<ClientConfig>>) -> Result<(LdapConnAsync, Ldap)> {
    let lost = |error: std::io::Error| fault::of_client(LdapError::from(error));
    let settings = LdapConnSettings::new();
    let (settings, url) = match place {
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(lost)?.into_std().map_err(lost)?;
            (settings.set_std_stream(StdStream::Unix(stream)), "ldapi:///".to_owned())
        }
        Place::Tcp { host, port, tls: when } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(lost)?;
            // Requests are small, and each is waited for.
            stream.set_nodelay(true).map_err(lost)?;
            let settings = settings.set_std_stream(StdStream::Tcp(stream.into_std().map_err(lost)?));
            let scheme = if *when == Tls::AtOnce { "ldaps" } else { "ldap" };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let settings = settings.set_starttls(*when == Tls::Started);
            let settings = match (when, tls) {
                (Tls::Never, _) => settings,
                (_, Some(tls)) => settings.set_config(Arc::clone(tls)),
                (_, None) => return Err(Error::new(ErrorKind::Internal, "TLS was not set up")),
            };
            (settings, format!("{scheme}://{host}:{port}"))
        }
    };
    LdapConnAsync::with_settings(settings, &url).await.map_err(fault::of_client)
}

/// Sets TLS up as configured, if any of the servers is spoken to over it.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if a file can't be used.
pub(crate) fn tls(places: &[Place], config: &TlsConfig) -> Result<Option<Arc<ClientConfig>>> {
    if !places.iter().any(|place| matches!(place, Place::Tcp { tls, .. } if *tls != Tls::Never)) {
        return Ok(None);
    }
    let read = |key: &'static str, path: &std::path::Path| {
        std::fs::read(path)
            .map_err(|error| wrong(format!("`{key}` can't be read: {}", path.display())).because(error))
    };
    let mut roots = RootCertStore::empty();
    match &config.ca {
        Some(path) => {
            for certificate in certificates("tls.ca", &read("tls.ca", path)?)? {
                roots.add(certificate).map_err(|error| wrong("`tls.ca` is no certificate").because(error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(wrong("there is no CA to trust: neither `tls.ca` nor any of the system"));
    }
    // Named, since no default of the process is assumed.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "TLS can't be set up").because(error))?
        .with_root_certificates(roots);
    let client = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("tls.cert", &read("tls.cert", cert)?)?;
            // The cause is not told: it may show what it could not read.
            let key = PrivateKeyDer::from_pem_slice(&read("tls.key", key)?)
                .map_err(|_| wrong("`tls.key` is no PEM of a private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| wrong("`tls.cert` and `tls.key` do not fit together"))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Some(Arc::new(client)))
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(wrong(format!("`{key}` is no PEM of certificates"))),
    }
}

//! What the urls and settings of all servers have in common.

use std::net::IpAddr;
use std::path::Path;

use auth_core::{Error, ErrorKind, Result};

use crate::config::{SqlConfig, TlsConfig, TlsMode};

/// Refuses what a url says after its `?`, but for these keys: a security setting must not stand there unseen.
pub(super) fn check_url(url: &str, known: &[&str]) -> Result<()> {
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    let key = |pair: &str| pair.split_once('=').map_or_else(|| pair.to_owned(), |(key, _)| key.to_owned());
    let plain =
        |key: &str| key.split_once(['[', '%']).map_or_else(|| key.to_owned(), |(key, _)| key.to_owned());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if !known.contains(&plain(&key(pair)).as_str()) {
            let known = known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(misconfigured(format!(
                "of what may follow the ? of this url, only {known} is known; TLS has settings of its own, `tls`"
            )));
        }
    }
    Ok(())
}

/// Decides what of the server's certificate is checked. Without a host it is a unix socket.
pub(super) fn tls_mode(config: &SqlConfig, host: Option<&str>) -> Result<TlsMode> {
    let TlsConfig { mode, ca, cert, key } = &config.tls;
    let Some(host) = host else {
        return match mode {
            None | Some(TlsMode::Off) if ca.is_none() && cert.is_none() && key.is_none() => Ok(TlsMode::Off),
            _ => Err(misconfigured("a unix socket has no TLS: leave `tls` out")),
        };
    };
    if cert.is_some() != key.is_some() {
        return Err(misconfigured("`tls.cert` and `tls.key` need each other"));
    }
    for (setting, file) in [("tls.ca", ca), ("tls.cert", cert), ("tls.key", key)] {
        if let Some(file) = file {
            check_file(setting, file)?;
        }
    }
    let any = ca.is_some() || cert.is_some();
    if any && *mode == Some(TlsMode::Off) {
        return Err(misconfigured("`tls.mode = \"off\"` leaves no use for the other keys of `tls`"));
    }
    let local = is_loopback(host);
    let mode = mode.unwrap_or(if local && !any { TlsMode::Off } else { TlsMode::VerifyFull });
    if !local && mode != TlsMode::VerifyFull {
        let risk = match mode {
            TlsMode::Off => "everybody in between reads every hash and every answer",
            TlsMode::Require => "whoever is in between can answer in the database's place",
            _ => "any server of a trusted authority can answer in the database's place",
        };
        tracing::warn!(host, "the connection to the database is not secured in full (`tls.mode`): {risk}");
    }
    Ok(mode)
}

fn check_file(setting: &'static str, file: &Path) -> Result<()> {
    match std::fs::read(file) {
        Ok(_) => Ok(()),
        Err(error) => {
            let error = misconfigured(format!("`{setting}` can't be read")).because(error);
            Err(error.with("file", file.display()))
        }
    }
}

/// Takes the brackets off an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn misconfigured(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Misconfigured, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(tls: &str) -> SqlConfig {
        toml::from_str(&format!("url = 'postgres://db/app'\n[tls]\n{tls}")).unwrap()
    }

    #[test]
    fn who_is_on_another_machine_is_verified_unless_configuration_says_otherwise() {
        let check = |tls: &str, host: Option<&str>, mode: Option<TlsMode>| {
            assert_eq!(tls_mode(&config(tls), host).ok(), mode, "{tls} {host:?}");
        };
        let ca = format!("ca = '{}'", file!().rsplit('/').next().map_or("Cargo.toml", |_| "Cargo.toml"));
        for far in ["db.example", "10.0.0.1", "localhost.example", "::2", "127.0.0.1.example"] {
            check("", Some(far), Some(TlsMode::VerifyFull));
            check("mode = 'off'", Some(far), Some(TlsMode::Off));
            check("mode = 'verify-ca'", Some(far), Some(TlsMode::VerifyCa));
            check("mode = 'require'", Some(far), Some(TlsMode::Require));
        }
        for near in ["localhost", "127.0.0.1", "::1", "127.9.9.9", "LOCALHOST"] {
            check("", Some(near), Some(TlsMode::Off));
            check(&ca, Some(near), Some(TlsMode::VerifyFull));
            check("mode = 'verify-full'", Some(near), Some(TlsMode::VerifyFull));
        }
        check("", None, Some(TlsMode::Off));
        check("mode = 'verify-full'", None, None);
        check("ca = 'nowhere.pem'", Some("db.example"), None);
        check("cert = 'Cargo.toml'", Some("db.example"), None);
        check(&format!("mode = 'off'\n{ca}"), Some("db.example"), None);
    }

    #[test]
    fn a_url_says_nothing_about_tls() {
        let check =
            |url: &str, good: bool| assert_eq!(check_url(url, &["host", "options"]).is_ok(), good, "{url}");
        check("postgres://db/app", true);
        check("postgres://db/app?host=/run/postgresql&options=-c%20x=y", true);
        check("postgres://db/app?options[search_path]=a", true);
        check("postgres://db/app?options%5Bsearch_path%5D=a", true);
        check("postgres://db/app?sslmode=disable", false);
        check("postgres://db/app?host=a&ssl-mode=disable", false);
        check("postgres://db/app?ssl%6Dode=disable", false);
    }

    #[test]
    fn an_address_loses_its_brackets() {
        assert_eq!((bare("[::1]"), bare("db"), bare("[x")), ("::1", "db", "[x"));
    }
}

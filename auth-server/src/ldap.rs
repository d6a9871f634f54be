//! `gatepost ldap`: outside any configuration.

use auth_core::{Error, ErrorKind, Result};
use auth_store_ldap::{Probe, ProbeAccount, ProbeOptions, TlsMode};

use crate::cli::LdapProbe;
use crate::input;

/// Looks at a server.
///
/// # Errors
/// Any kind.
pub(crate) async fn probe(args: &LdapProbe) -> Result<Probe> {
    let mut options = ProbeOptions::default();
    if let Some(dn) = &args.bind_dn {
        let password = String::from_utf8(input::password(false)?.bytes())
            .map_err(|_| Error::new(ErrorKind::Invalid, "the password is no text"))?;
        options.account = Some(ProbeAccount { dn: dn.clone(), password });
    }
    options.tls.ca.clone_from(&args.ca);
    options.tls.starttls = args.starttls;
    if args.in_clear {
        options.tls.mode = TlsMode::None;
    }
    auth_store_ldap::probe(&args.url, &options).await
}

/// Makes a row for programs.
///
/// # Errors
/// [`Internal`](ErrorKind::Internal) if it can't be written, which can't be.
pub(crate) fn row(probe: &Probe) -> Result<serde_json::Value> {
    serde_json::to_value(probe)
        .map_err(|error| Error::new(ErrorKind::Internal, "can't be written").because(error))
}

//! Whether the configuration fits the server: compared once, so that a spelling mistake never reads as "nobody".

use std::collections::BTreeMap;

use auth_core::{ErrorKind, Result};
use ldap3::Scope;

use crate::config::{Identity, Mode, Preset, Settings, Strategy};
use crate::fault::{self, wrong};
use crate::pool::Service;
use crate::wire::{Entry, Query};

/// The control of paged results.
const PAGED: &str = "1.2.840.113556.1.4.319";
/// What Active Directory, and nobody else, says of itself.
const ACTIVE_DIRECTORY: &str = "1.2.840.113556.1.4.800";

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) active_directory: bool,
    pub(crate) paged: bool,
    pub(crate) contexts: Vec<String>,
    pub(crate) default_context: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) vendor: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) controls: Vec<String>,
    pub(crate) extensions: Vec<String>,
    pub(crate) classes: Vec<String>,
}

const ROOT: [&str; 9] = [
    "supportedControl",
    "supportedCapabilities",
    "supportedExtension",
    "namingContexts",
    "defaultNamingContext",
    "subschemaSubentry",
    "vendorName",
    "vendorVersion",
    "objectClass",
];

impl Facts {
    /// Reads the entry in which a server describes itself.
    pub(crate) fn of(root: &Entry) -> Self {
        let all = |name: &str| root.texts(name).map(str::to_owned).collect::<Vec<_>>();
        let first = |name: &str| root.text(name).map(str::to_owned);
        let controls = all("supportedControl");
        Self {
            active_directory: root.texts("supportedCapabilities").any(|oid| oid == ACTIVE_DIRECTORY),
            paged: controls.iter().any(|oid| oid == PAGED),
            contexts: all("namingContexts"),
            default_context: first("defaultNamingContext"),
            schema: first("subschemaSubentry"),
            vendor: first("vendorName"),
            version: first("vendorVersion"),
            extensions: all("supportedExtension"),
            classes: all("objectClass"),
            controls,
        }
    }
}

/// Reads one entry by its name.
///
/// # Errors
/// Any kind.
pub(crate) async fn entry(
    service: &Service,
    dn: &str,
    filter: &str,
    attributes: &[&str],
) -> Result<Option<Entry>> {
    let attributes: Vec<String> = attributes.iter().map(|name| (*name).to_owned()).collect();
    let query = Query { base: dn, scope: Scope::Base, filter, attributes: &attributes, limit: 1, page: None };
    let found = service.search(&query).await?;
    fault::of_search(&found.answer, found.entries.len(), 1)?;
    Ok(found.entries.into_iter().next())
}

/// Reads what a server says of itself.
///
/// # Errors
/// Any kind.
pub(crate) async fn facts(service: &Service) -> Result<Option<Facts>> {
    Ok(entry(service, "", "(objectClass=*)", &ROOT).await?.map(|root| Facts::of(&root)))
}

/// The attributes that a server knows: by their names in small letters, as it spells them.
pub(crate) type Known = BTreeMap<String, String>;

/// Reads which attributes a server knows, if it tells.
///
/// # Errors
/// Any kind.
pub(crate) async fn known(service: &Service, facts: &Facts) -> Result<Option<Known>> {
    let Some(dn) = &facts.schema else { return Ok(None) };
    let schema = entry(service, dn, "(objectClass=*)", &["attributeTypes"]).await?;
    let known: Known = schema
        .iter()
        .flat_map(|schema| schema.texts("attributeTypes"))
        .flat_map(names)
        .map(|name| (name.to_ascii_lowercase(), name.to_owned()))
        .collect();
    Ok(Some(known).filter(|known| !known.is_empty()))
}

/// Reads the names in a description of an attribute: `( 2.5.4.3 NAME ( 'cn' 'commonName' ) SUP name )`, and its number.
fn names(description: &str) -> Vec<&str> {
    let rest = description.trim_start_matches(['(', ' ']);
    let number = rest.split(' ').next().filter(|number| !number.is_empty());
    let after = description.split_once(" NAME ").map_or("", |(_, rest)| rest.trim_start());
    let quoted = match after.strip_prefix('(') {
        Some(list) => list.split(')').next().unwrap_or_default(),
        // Up to the end of the first.
        None => after.get(..after.match_indices('\'').nth(1).map_or(0, |(at, _)| at + 1)).unwrap_or_default(),
    };
    quoted.split('\'').skip(1).step_by(2).chain(number).collect()
}

/// Compares the configuration with the server.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) for what does not fit; otherwise any kind.
pub(crate) async fn check(settings: &Settings, service: &Service) -> Result<Facts> {
    // Without an account of our own, and with no search to be made, the server may tell us nothing.
    let blind = settings.mode == Mode::BindTemplate && matches!(settings.identity, Identity::Nobody);
    let facts = match facts(service).await {
        Ok(Some(facts)) => facts,
        Err(error) if blind && error.kind() == ErrorKind::Misconfigured => {
            tracing::info!(
                "the LDAP server tells nothing to strangers; the configuration is not compared with it"
            );
            return Ok(Facts::default());
        }
        Ok(None) => Facts::default(),
        Err(error) => return Err(error),
    };
    kind(settings, &facts)?;
    if let Some(known) = known(service, &facts).await? {
        attributes(settings, &known)?;
    } else if !blind {
        tracing::warn!("the LDAP server does not show its schema; attributes are not checked");
    }
    base(service, "base", &settings.base, &facts, blind).await?;
    if let Some(groups) = &settings.groups {
        base(service, "group_base", &groups.base, &facts, blind).await?;
    }
    Ok(facts)
}

fn kind(settings: &Settings, facts: &Facts) -> Result<()> {
    match (settings.preset, facts.active_directory) {
        (Preset::Ad, false) => Err(wrong(
            "`preset` is ad, but the server is not Active Directory; it would answer its filters with nobody",
        )),
        (Preset::OpenLdap | Preset::Ds389, true) => {
            Err(wrong("the server is Active Directory: `preset = \"ad\"`"))
        }
        _ => Ok(()),
    }
}

fn attributes(settings: &Settings, known: &Known) -> Result<()> {
    let mut used: Vec<(&str, String)> =
        vec![("login_attr", settings.login_attr.clone()), ("id_attr", settings.id_attr.clone())];
    used.extend(settings.user_filter.attributes().into_iter().map(|name| ("user_filter", name.to_owned())));
    if matches!(settings.mode, Mode::FetchHash | Mode::Compare) {
        used.push(("password_attr", settings.password_attr.clone()));
    }
    if let Some(template) = &settings.user_dn {
        used.extend(template.attributes().into_iter().map(|name| ("user_dn", name)));
    }
    if let Some(groups) = &settings.groups {
        used.push(("group_name_attr", groups.name_attr.clone()));
        match groups.strategy {
            Strategy::MemberOf => used.push(("group_strategy", "memberOf".to_owned())),
            Strategy::TokenGroups => used.push(("group_strategy", "tokenGroups".to_owned())),
            _ => used
                .extend(groups.filter.attributes().into_iter().map(|name| ("group_filter", name.to_owned()))),
        }
    }
    for (key, name) in used {
        let plain = name.split(';').next().unwrap_or_default().to_ascii_lowercase();
        if !known.contains_key(&plain) {
            let near = did_you_mean(&plain, known);
            return Err(wrong(format!("the server knows no attribute `{name}`, which `{key}` uses{near}")));
        }
    }
    Ok(())
}

fn did_you_mean(name: &str, known: &Known) -> String {
    let nearest = known
        .iter()
        .map(|(folded, spelled)| (strsim::damerau_levenshtein(name, folded), spelled))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 3);
    nearest.map_or_else(String::new, |(_, spelled)| format!("; did you mean `{spelled}`?"))
}

async fn base(service: &Service, key: &'static str, dn: &str, facts: &Facts, blind: bool) -> Result<()> {
    let attributes = ["1.1".to_owned()];
    let query = Query {
        base: dn,
        scope: Scope::Base,
        filter: "(objectClass=*)",
        attributes: &attributes,
        limit: 1,
        page: None,
    };
    let found = service.search(&query).await?;
    let told = || match facts.contexts.is_empty() {
        true => String::new(),
        false => format!("; it has: {}", facts.contexts.join("; ")),
    };
    match (found.answer.code, found.entries.len()) {
        (0, 1..) => Ok(()),
        (_, _) if blind => Ok(()),
        (32, _) => Err(wrong(format!(
            "the server has no `{dn}`, or hides it from our account: see `{key}`{}",
            told()
        ))),
        (0, 0) if dn.is_empty() => Ok(()),
        (0, 0) => Err(wrong(format!("our account may not read `{dn}`: see `{key}`"))),
        _ => fault::of_search(&found.answer, found.entries.len(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_attributes_are_read() {
        for (text, expected) in [
            ("( 2.5.4.3 NAME ( 'cn' 'commonName' ) SUP name )", vec!["cn", "commonName", "2.5.4.3"]),
            ("( 1.2.3 NAME 'uid' DESC 'it''s' EQUALITY x )", vec!["uid", "1.2.3"]),
            ("(1.2.3)", vec!["1.2.3)"]),
            ("", vec![]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }
}

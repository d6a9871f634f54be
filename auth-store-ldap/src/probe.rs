//! What a server is like, and the configuration that this suggests.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use auth_core::Result;
use ldap3::Scope;
use serde::Serialize;

use crate::check::{self, Facts, Known};
use crate::config::{LdapConfig, Preset, Settings, TlsConfig};
use crate::dn;
use crate::fault::{PPOLICY, of_search};
use crate::pool::{Servers, Service};
use crate::wire::{Entry, Query};

/// How many people and groups are looked at.
const SAMPLE: usize = 50;
/// The request that begins TLS.
const STARTTLS: &str = "1.3.6.1.4.1.1466.20037";

/// How to look at a server.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ProbeOptions {
    /// As whom: a name and a password. Strangers see little of many servers.
    pub account: Option<ProbeAccount>,
    /// How the connection is protected.
    pub tls: TlsConfig,
}

/// A name and a password; `Debug` shows only the name.
#[derive(Clone)]
pub struct ProbeAccount {
    /// The name.
    pub dn: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for ProbeAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeAccount").field("dn", &self.dn).finish_non_exhaustive()
    }
}

/// What a server is like, and what to configure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Probe {
    /// What the server calls itself, as far as it does.
    pub product: String,
    /// The preset.
    pub preset: &'static str,
    /// Everything that the server has.
    pub naming_contexts: Vec<String>,
    /// Where people are.
    pub base: Option<String>,
    /// The attribute with the login.
    pub login_attr: String,
    /// The attribute with an id that survives a rename.
    pub id_attr: String,
    /// Finds a person.
    pub user_filter: String,
    /// Where groups are, if there are any.
    pub group_base: Option<String>,
    /// How groups are found.
    pub group_strategy: Option<&'static str>,
    /// Finds groups, where the strategy's own filter does not.
    pub group_filter: Option<String>,
    /// Whether it can begin TLS on `ldap://`.
    pub starttls: bool,
    /// Whether it tells of locks and expired passwords by the control of password policies.
    pub ppolicy: bool,
    /// Whether it gives long answers page by page.
    pub paged: bool,
    /// Why all this is proposed.
    pub reasons: Vec<String>,
    /// What could not be found out.
    pub doubts: Vec<String>,
    /// The configuration, as TOML.
    pub config: String,
}

/// Looks at a server, and proposes a configuration.
///
/// # Errors
/// [`Misconfigured`](auth_core::ErrorKind::Misconfigured) if the address or the account is wrong; temporary kinds if
/// the server can't be reached.
pub async fn probe(url: &str, options: &ProbeOptions) -> Result<Probe> {
    let mut config = LdapConfig::new(url, "");
    config.tls = options.tls.clone();
    if let Some(account) = &options.account {
        config.bind_dn = Some(account.dn.clone());
        config.bind_password = Some(account.password.clone());
        // The one that takes any name: what server it is is not known yet.
        config.preset = Preset::Ad;
    }
    let settings = Settings::of(&config)?;
    let service = Service::new(Arc::new(Servers::new(&settings)?), &settings);
    let mut doubts = Vec::new();
    let facts = match check::facts(&service).await {
        Ok(facts) => facts.unwrap_or_default(),
        Err(error) if options.account.is_none() && !error.kind().is_temporary() => {
            doubts.push(format!("the server tells strangers nothing ({}); give an account", error.message()));
            Facts::default()
        }
        Err(error) => return Err(error),
    };
    let known = check::known(&service, &facts).await.unwrap_or_default().unwrap_or_default();
    Look { service: &service, facts: &facts, known, reasons: Vec::new(), doubts }.propose(url, options).await
}

struct Look<'a> {
    service: &'a Service,
    facts: &'a Facts,
    known: Known,
    reasons: Vec<String>,
    doubts: Vec<String>,
}

/// Some entries of a kind.
#[derive(Default)]
struct Sample {
    entries: Vec<Entry>,
    /// Whether there are more.
    cut: bool,
}

fn has_class(entry: &Entry, class: &str) -> bool {
    entry.texts("objectClass").any(|text| text.eq_ignore_ascii_case(class))
}

impl Look<'_> {
    async fn propose(mut self, url: &str, options: &ProbeOptions) -> Result<Probe> {
        let (product, preset) = self.product();
        let context = self.facts.default_context.clone().or_else(|| self.facts.contexts.first().cloned());
        if self.facts.contexts.len() > 1 && self.facts.default_context.is_none() {
            self.doubts.push(format!("there are several trees: {}", self.facts.contexts.join("; ")));
        }
        let id_attr = match preset {
            Preset::OpenLdap => "entryUUID",
            Preset::Ad => "objectGUID",
            Preset::Ds389 => "nsUniqueId",
        };
        if !self.known.is_empty() && !self.known.contains_key(&id_attr.to_ascii_lowercase()) {
            self.doubts
                .push(format!("the server has no {id_attr}; choose an id_attr that survives a rename"));
        }
        let (people, groups) = match &context {
            Some(base) => (self.people(base, preset).await, self.groups(base, preset).await),
            None => (Sample::default(), Sample::default()),
        };
        let (login_attr, user_filter) = self.logins(&people.entries, preset);
        let base = self.base(&people, context.clone(), "people");
        let (group_strategy, group_filter) = self.strategy(&groups.entries, &people.entries, preset);
        let group_base = group_strategy.and_then(|_| self.base(&groups, context, "groups"));
        let mut probe = Probe {
            product,
            preset: preset.as_str(),
            naming_contexts: self.facts.contexts.clone(),
            base,
            login_attr,
            id_attr: id_attr.to_owned(),
            user_filter,
            group_base,
            group_strategy,
            group_filter,
            starttls: self.facts.extensions.iter().any(|oid| oid == STARTTLS),
            ppolicy: self.facts.controls.iter().any(|oid| oid == PPOLICY),
            paged: self.facts.paged,
            reasons: self.reasons,
            doubts: self.doubts,
            config: String::new(),
        };
        probe.config = written(&probe, url, options);
        Ok(probe)
    }

    fn product(&mut self) -> (String, Preset) {
        let facts = self.facts;
        let name: Vec<&str> =
            [&facts.vendor, &facts.version].into_iter().flatten().map(String::as_str).collect();
        let name = name.join(" ");
        if facts.active_directory {
            self.reasons
                .push("it says that it is Active Directory (capability 1.2.840.113556.1.4.800)".to_owned());
            return ("Active Directory".to_owned(), Preset::Ad);
        }
        if name.contains("389") {
            self.reasons.push(format!("it calls itself {name}"));
            return (name, Preset::Ds389);
        }
        if facts.classes.iter().any(|class| class.eq_ignore_ascii_case("OpenLDAProotDSE")) {
            self.reasons.push("its root entry is OpenLDAP's".to_owned());
            return ("OpenLDAP".to_owned(), Preset::OpenLdap);
        }
        self.doubts.push("what product it is can't be seen; openldap is the plainest preset".to_owned());
        (if name.is_empty() { "unknown".to_owned() } else { name }, Preset::OpenLdap)
    }

    async fn sample(&mut self, base: &str, filter: &str, attributes: &[&str], what: &str) -> Sample {
        let attributes: Vec<String> = attributes.iter().map(|name| (*name).to_owned()).collect();
        let query =
            Query { base, scope: Scope::Subtree, filter, attributes: &attributes, limit: SAMPLE, page: None };
        let found = self.service.search(&query).await.and_then(|found| {
            // Cut short by the server, there are still some of them.
            match of_search(&found.answer, found.entries.len(), SAMPLE) {
                Err(error) if found.entries.is_empty() => Err(error),
                _ => Ok(Sample { cut: found.answer.code != 0, entries: found.entries }),
            }
        });
        found.unwrap_or_else(|error| {
            self.doubts.push(format!("{what} can't be searched for: {}", error.message()));
            Sample::default()
        })
    }

    async fn people(&mut self, base: &str, preset: Preset) -> Sample {
        let filter = match preset {
            Preset::Ad => "(&(objectCategory=person)(objectClass=user))",
            _ => "(|(objectClass=inetOrgPerson)(objectClass=posixAccount)(objectClass=account))",
        };
        let attributes = ["objectClass", "uid", "sAMAccountName", "cn", "mail", "memberOf"];
        let people = self.sample(base, filter, &attributes, "people").await;
        if people.entries.is_empty() {
            self.doubts.push(
                "nobody was seen: the account may see nobody, or people are of another kind".to_owned(),
            );
        }
        people
    }

    fn logins(&mut self, people: &[Entry], preset: Preset) -> (String, String) {
        let candidates: &[&str] = match preset {
            Preset::Ad => &["sAMAccountName"],
            _ => &["uid", "sAMAccountName", "mail", "cn"],
        };
        let everybody = |name: &str| people.iter().all(|entry| entry.values(name).len() == 1);
        let chosen = candidates.iter().find(|name| !people.is_empty() && everybody(name));
        let login = chosen.or_else(|| candidates.first()).map_or("uid", |name| *name);
        if chosen.is_some() {
            self.reasons.push(format!("everybody who was seen ({}) has one {login}", people.len()));
        } else if !people.is_empty() {
            self.doubts.push("no attribute was seen that everybody has once; choose login_attr".to_owned());
        }
        let class = ["inetOrgPerson", "posixAccount", "person"]
            .into_iter()
            .find(|class| !people.is_empty() && people.iter().all(|entry| has_class(entry, class)));
        let filter = match (preset, class) {
            (Preset::Ad, _) => format!("(&(objectCategory=person)(objectClass=user)({login}={{login}}))"),
            (_, Some(class)) => {
                self.reasons.push(format!("everybody who was seen is a {class}"));
                format!("(&(objectClass={class})({login}={{login}}))")
            }
            (_, None) => format!("({login}={{login}})"),
        };
        (login.to_owned(), filter)
    }

    /// The one place where they all are, if all were seen; else the whole tree.
    fn base(&mut self, sample: &Sample, context: Option<String>, what: &str) -> Option<String> {
        let mut parents = sample.entries.iter().map(|entry| dn::parent(&entry.dn));
        let first = parents.next().flatten();
        let same = first.filter(|first| {
            !sample.cut
                && parents.all(|parent| parent.is_some_and(|parent| dn::key(parent) == dn::key(first)))
        });
        if let Some(parent) = same {
            self.reasons.push(format!("all {what} are right under {parent}"));
            return Some(parent.to_owned());
        }
        if !sample.entries.is_empty() {
            self.reasons.push(format!("{what} may be anywhere in the tree"));
        }
        context
    }

    async fn groups(&mut self, base: &str, preset: Preset) -> Sample {
        let filter = match preset {
            Preset::Ad => "(objectClass=group)",
            _ => "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
        };
        self.sample(base, filter, &["objectClass"], "groups").await
    }

    fn strategy(
        &mut self,
        groups: &[Entry],
        people: &[Entry],
        preset: Preset,
    ) -> (Option<&'static str>, Option<String>) {
        if preset == Preset::Ad {
            self.reasons.push("tokenGroups has nested groups and the primary group too".to_owned());
            return (Some("tokenGroups"), None);
        }
        if groups.is_empty() {
            self.doubts.push("no groups were seen".to_owned());
            return (None, None);
        }
        let of = |class: &str| groups.iter().any(|entry| has_class(entry, class));
        if !of("groupOfNames") && !of("groupOfUniqueNames") {
            self.reasons.push("groups list the logins of their members (posixGroup)".to_owned());
            return (Some("direct"), Some("(&(objectClass=posixGroup)(memberUid={login}))".to_owned()));
        }
        let listed = people.iter().any(|entry| !entry.values("memberOf").is_empty());
        if preset == Preset::Ds389 && listed {
            self.reasons
                .push("people's entries have memberOf, which on 389-DS has nested groups too".to_owned());
            return (Some("memberOf"), None);
        }
        if listed {
            self.reasons.push("memberOf is there, but may have direct groups only".to_owned());
        }
        self.reasons.push("groups list the names of their members, so nested ones are followed".to_owned());
        (Some("recursive"), None)
    }
}

/// Writes the configuration, with the reasons as comments.
fn written(probe: &Probe, url: &str, options: &ProbeOptions) -> String {
    let mut text = String::new();
    let comment = |text: &str| text.replace(char::is_control, " ");
    for reason in &probe.reasons {
        let _ = writeln!(text, "# {}", comment(reason));
    }
    for doubt in &probe.doubts {
        let _ = writeln!(text, "# NOT SURE: {}", comment(doubt));
    }
    let mut say = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    say("[source.staff]\nkind", "\"ldap\"");
    say("url", &quoted(url));
    say("preset", &quoted(probe.preset));
    if options.tls.starttls {
        say("tls", "{ starttls = true }");
    }
    say("base", &quoted(probe.base.as_deref().unwrap_or_default()));
    say("user_filter", &quoted(&probe.user_filter));
    say("login_attr", &quoted(&probe.login_attr));
    say("id_attr", &quoted(&probe.id_attr));
    if let Some(account) = &options.account {
        say("bind_dn", &quoted(&account.dn));
        say("bind_password", "{ file = \"/run/credentials/gatepost/ldap\" }");
    }
    if let (Some(base), Some(strategy)) = (&probe.group_base, probe.group_strategy) {
        say("group_base", &quoted(base));
        say("group_strategy", &quoted(strategy));
    }
    if let Some(filter) = &probe.group_filter {
        say("group_filter", &quoted(filter));
    }
    text
}

/// Quotes a text as TOML does.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

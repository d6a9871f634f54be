//! The groups of a person, by each strategy.

use std::collections::{HashMap, HashSet};

use auth_core::{Error, ErrorKind, GroupSet, Login, Result};
use ldap3::Scope;

use crate::config::{Groups, Settings, Strategy};
use crate::dn;
use crate::fault::{self, wrong};
use crate::filter::{Filter, Slot, Values};
use crate::pool::Service;
use crate::wire::{Entry, Query};

/// How many members or groups one search asks for.
const AT_ONCE: usize = 50;

/// Lists the attributes of a person's own entry that a strategy needs.
pub(crate) fn attribute(strategy: Strategy) -> Option<&'static str> {
    (strategy == Strategy::MemberOf).then_some("memberOf")
}

/// Finds groups.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) groups: &'a Groups,
    pub(crate) service: &'a Service,
    pub(crate) paged: bool,
}

impl Finder<'_> {
    /// Finds all groups of the person whose entry this is.
    ///
    /// # Errors
    /// Any kind; never a shorter list.
    pub(crate) async fn of(&self, person: &Entry, who: &Login) -> Result<GroupSet> {
        let names = match self.groups.strategy {
            Strategy::MemberOf => self.member_of(person).await?,
            Strategy::TokenGroups => self.token_groups(person).await?,
            Strategy::InChain => {
                self.names(&self.search(&self.groups.filter.fill(self.values(person, who)?)).await?)?
            }
            Strategy::Recursive | Strategy::Direct => self.level_by_level(person, who).await?,
        };
        Ok(names.iter().map(String::as_str).collect())
    }

    /// What a person is called in groups: by the entry as it is now, since the login of before may be somebody else's.
    fn values<'a>(&self, person: &'a Entry, who: &Login) -> Result<Values<'a>> {
        let dn = Some(person.dn.as_bytes());
        if !self.groups.filter.has(Slot::Login) {
            return Ok(Values { dn, login: None });
        }
        let logins = person.values(&self.settings.login_attr);
        let login = match (person.texts(&self.settings.login_attr).find(|found| who.is(found)), logins) {
            (Some(same), _) => same.as_bytes(),
            (None, [renamed]) => renamed,
            (None, []) => {
                return Err(wrong("our account can't read the login of an entry: see `login_attr`"));
            }
            (None, _) => {
                return Err(Error::new(
                    ErrorKind::Ambiguous,
                    "somebody who was renamed has several logins, and groups list people by one",
                ));
            }
        };
        Ok(Values { dn, login: Some(login) })
    }

    async fn member_of(&self, person: &Entry) -> Result<Vec<String>> {
        if person.names().any(|name| name.starts_with("memberof;range=")) {
            return Err(wrong(
                "somebody is in more groups than the server lists at once; use the strategy tokenGroups",
            ));
        }
        let mut names = Vec::new();
        let mut by_search = Vec::new();
        for value in person.values("memberOf") {
            let dn = str::from_utf8(value).map_err(|_| corrupt("the name of a group is no text"))?;
            if !dn::is_under(dn, &self.groups.base) {
                continue;
            }
            match dn::first_value(dn, &self.groups.name_attr) {
                Some(name) => names.push(name),
                None => by_search.push(dn),
            }
        }
        self.check_count(names.len() + by_search.len())?;
        for dn in by_search {
            // One that is listed and not there has no members.
            let attributes = [self.groups.name_attr.clone()];
            let query = Query {
                base: dn,
                scope: Scope::Base,
                filter: "(objectClass=*)",
                attributes: &attributes,
                limit: 1,
                page: None,
            };
            let found = self.service.search(&query).await?;
            if found.answer.code == 32 {
                continue;
            }
            fault::of_search(&found.answer, found.entries.len(), 1)?;
            for group in &found.entries {
                names.push(self.name(group)?);
            }
        }
        Ok(names)
    }

    async fn token_groups(&self, person: &Entry) -> Result<Vec<String>> {
        let attributes = ["tokenGroups".to_owned()];
        let query = Query {
            base: &person.dn,
            scope: Scope::Base,
            filter: "(objectClass=*)",
            attributes: &attributes,
            limit: 1,
            page: None,
        };
        let found = self.service.search(&query).await?;
        fault::of_search(&found.answer, found.entries.len(), 1)?;
        let sids = found.entries.first().map(|entry| entry.values("tokenGroups")).unwrap_or_default();
        self.check_count(sids.len())?;
        let mut names = Vec::new();
        for part in sids.chunks(AT_ONCE) {
            let any = part.iter().map(|sid| Filter::equal("objectSid", sid)).collect();
            names.extend(self.names(&self.search(&Filter::Or(any)).await?)?);
        }
        Ok(names)
    }

    /// Asks for the groups of a person, then for the groups of those groups, and so on until there is no new one.
    async fn level_by_level(&self, person: &Entry, who: &Login) -> Result<Vec<String>> {
        let mut filters = vec![self.groups.filter.fill(self.values(person, who)?)];
        let mut all: HashMap<String, String> = HashMap::new();
        for level in 0..=self.groups.depth {
            let mut new: Vec<String> = Vec::new();
            let mut seen = HashSet::new();
            for filter in &filters {
                for group in self.search(filter).await? {
                    let key = dn::key(&group.dn);
                    if !all.contains_key(&key) && seen.insert(key.clone()) {
                        all.insert(key, self.name(&group)?);
                        new.push(group.dn);
                    }
                }
            }
            self.check_count(all.len())?;
            if new.is_empty() || self.groups.strategy == Strategy::Direct {
                return Ok(all.into_values().collect());
            }
            if level == self.groups.depth {
                break;
            }
            filters = new
                .chunks(AT_ONCE)
                .map(|part| {
                    let of = |dn: &String| {
                        self.groups.filter.fill(Values { dn: Some(dn.as_bytes()), login: None })
                    };
                    Filter::Or(part.iter().map(of).filter(|filter| *filter != Filter::Never).collect())
                })
                .filter(|filter| *filter != Filter::Or(Vec::new()))
                .collect();
        }
        Err(wrong("groups are nested deeper than `group_depth`"))
    }

    async fn search(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let Some(filter) = filter.text() else { return Ok(Vec::new()) };
        let limit = self.settings.pool.max_groups + 1;
        let attributes = [self.groups.name_attr.clone()];
        let query = Query {
            base: &self.groups.base,
            scope: Scope::Subtree,
            filter: &filter,
            attributes: &attributes,
            limit,
            page: self.paged.then_some(self.settings.pool.page),
        };
        let found = self.service.search(&query).await?;
        fault::of_search(&found.answer, found.entries.len(), limit)?;
        if found.referred && self.settings.referrals == crate::config::Referrals::Refuse {
            return Err(wrong(
                "some groups are on another server, to which this one refers; referrals are never followed",
            ));
        }
        self.check_count(found.entries.len())?;
        Ok(found.entries)
    }

    fn names(&self, groups: &[Entry]) -> Result<Vec<String>> {
        groups.iter().map(|group| self.name(group)).collect()
    }

    /// Returns the name of a group: what its entry is named by, or its one value.
    fn name(&self, group: &Entry) -> Result<String> {
        if let Some(name) = dn::first_value(&group.dn, &self.groups.name_attr) {
            return Ok(name);
        }
        let mut names = group.texts(&self.groups.name_attr);
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name.to_owned()),
            (None, _) => Err(wrong("our account can't read the name of a group: see `group_name_attr`")),
            (Some(_), Some(_)) => Err(corrupt("a group has several names")),
        }
    }

    fn check_count(&self, count: usize) -> Result<()> {
        if count > self.settings.pool.max_groups {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "somebody is in more groups than `pool.max_groups`",
            ));
        }
        Ok(())
    }
}

fn corrupt(message: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

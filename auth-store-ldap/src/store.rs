//! The store.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use auth_core::{
    Account, AccountSource, Clock, Ctx, Error, ErrorKind, GroupOracle, GroupSet, Id, Login, Lookup, Password,
    PasswordSource, Principal, Reject, Result, SourceInfo, StoredHash, Verdict,
};
use ldap3::Scope;
use tokio::time::Instant;

use crate::check::{self, Facts};
use crate::config::{Check, IdKind, Identity, LdapConfig, Mode, Referrals, Settings};
use crate::fault::{self, Bound, wrong};
use crate::filter::{Filter, Values};
use crate::groups::{self, Finder};
use crate::pool::{Binds, Servers, Service};
use crate::state;
use crate::wire::{Entry, Found, Query};

/// People and groups in a directory.
///
/// In the mode `fetch-hash` it is an [`AccountSource`], in the others a [`PasswordSource`]; where groups are
/// configured also a [`GroupOracle`].
#[derive(Debug)]
pub struct LdapStore {
    info: SourceInfo,
    settings: Settings,
    clock: Arc<dyn Clock>,
    service: Service,
    binds: Binds,
    facts: OnceLock<Facts>,
    /// Held by the one question that compares the configuration with the server: when that failed last, and why.
    checking: tokio::sync::Mutex<Option<(Instant, Error)>>,
}

/// A person's entry and what it says.
#[derive(Debug)]
struct Person {
    entry: Entry,
    account: Account,
}

impl LdapStore {
    /// Opens the store, and compares its configuration with the server unless that is to come later.
    ///
    /// # Errors
    /// [`Misconfigured`](ErrorKind::Misconfigured) for what does not fit; temporary kinds if no server can be reached.
    pub async fn connect(info: SourceInfo, config: LdapConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let name = Arc::clone(info.name());
        Self::open(info, &config, clock).await.map_err(|error| error.at(name))
    }

    async fn open(info: SourceInfo, config: &LdapConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let settings = Settings::of(config)?;
        let servers = Arc::new(Servers::new(&settings)?);
        let mut capabilities = info.capabilities();
        capabilities.tells_unknown = settings.mode != Mode::BindTemplate;
        capabilities.lists_groups = true;
        capabilities.replaces_hash = false;
        let store = Self {
            info: info.with_capabilities(capabilities),
            service: Service::new(Arc::clone(&servers), &settings),
            binds: Binds::new(servers, &settings),
            settings,
            clock,
            facts: OnceLock::new(),
            checking: tokio::sync::Mutex::default(),
        };
        if store.settings.check == Check::Start {
            store.facts().await?;
        }
        Ok(store)
    }

    /// Returns how passwords are checked: in the mode `fetch-hash` the store shows accounts, in the others it decides.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// Reports whether groups are configured.
    #[must_use]
    pub const fn has_groups(&self) -> bool {
        self.settings.groups.is_some()
    }

    /// Returns what the server says of itself, once the configuration was found to fit.
    async fn facts(&self) -> Result<&Facts> {
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        let began = Instant::now();
        let mut failed = self.checking.lock().await;
        if let Some(facts) = self.facts.get() {
            return Ok(facts);
        }
        // Those who have waited for an attempt that failed share its failure.
        if let Some((_, error)) = failed.as_ref().filter(|(when, _)| *when >= began) {
            return Err(error.clone());
        }
        let facts = check::check(&self.settings, &self.service).await;
        let facts = facts.inspect_err(|error| *failed = Some((Instant::now(), error.clone())))?;
        Ok(self.facts.get_or_init(|| facts))
    }

    fn at(&self, error: Error) -> Error {
        error.at(Arc::clone(self.info.name()))
    }

    /// Lists what is asked of a person's entry.
    fn attributes(&self) -> Vec<String> {
        let mut names = vec![self.settings.login_attr.clone(), self.settings.id_attr.clone()];
        names.extend(state::attributes(self.settings.preset).iter().map(|name| (*name).to_owned()));
        if self.settings.mode == Mode::FetchHash {
            names.push(self.settings.password_attr.clone());
        }
        names
    }

    /// Finds somebody by a filter, of whom there must be only one.
    async fn one(&self, filter: &Filter, attributes: &[String]) -> Result<Option<Entry>> {
        // Nothing that can be fulfilled: nobody.
        let Some(filter) = filter.text() else { return Ok(None) };
        let query = Query {
            base: &self.settings.base,
            scope: Scope::Subtree,
            filter: &filter,
            attributes,
            // With a limit of one, the server would hand over the first of two.
            limit: 2,
            page: None,
        };
        self.only(self.service.search(&query).await?)
    }

    fn only(&self, found: Found) -> Result<Option<Entry>> {
        fault::of_search(&found.answer, found.entries.len(), 2)?;
        let referred = found.referred && self.settings.referrals == Referrals::Refuse;
        let mut entries = found.entries.into_iter();
        match (entries.next(), entries.next()) {
            (Some(_), Some(_)) => Err(Error::new(ErrorKind::Ambiguous, "two entries answer to one login")),
            _ if referred => Err(wrong(
                "part of `base` is on another server, to which this one refers; referrals are never followed",
            )),
            (found, _) => Ok(found),
        }
    }

    /// Finds a person by login. What is found under another name is nobody.
    async fn find(&self, login: &Login) -> Result<Option<Person>> {
        let values = Values { login: Some(login.as_str().as_bytes()), dn: None };
        let found = self.one(&self.settings.user_filter.fill(values), &self.attributes()).await?;
        found.map_or(Ok(None), |entry| self.person(login, entry))
    }

    /// Reads the entry of a person, if it is the one that was asked for.
    fn person(&self, login: &Login, entry: Entry) -> Result<Option<Person>> {
        if entry.values(&self.settings.login_attr).is_empty() {
            return Err(wrong("our account can't read the login of an entry: see `login_attr`"));
        }
        let Some(found) = entry.texts(&self.settings.login_attr).find(|found| login.is(found)) else {
            tracing::debug!(source = %self.info.name(), "the server took another login for the one asked for");
            return Ok(None);
        };
        let id = self.id(&entry)?;
        let state = state::read(self.settings.preset, self.settings.mode, &entry)?;
        let hash = self.hash(&entry)?;
        let account = Account::found(&self.info, login, found, id, state, hash);
        Ok(account.found().map(|account| Person { entry, account }))
    }

    fn id(&self, entry: &Entry) -> Result<Id> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "the id of an entry can't be read: see `id_attr`");
        let [value] = entry.values(&self.settings.id_attr) else {
            return Err(match entry.values(&self.settings.id_attr).is_empty() {
                true => wrong("our account can't read the id of an entry: see `id_attr`"),
                false => corrupt(),
            });
        };
        match self.settings.id_kind {
            IdKind::Guid => guid(value).ok_or_else(corrupt),
            IdKind::Uuid => str::from_utf8(value).ok().and_then(uuid).ok_or_else(corrupt),
            IdKind::Text => {
                let text = str::from_utf8(value).map_err(|_| corrupt())?;
                if text.is_empty() { Err(corrupt()) } else { Ok(Id::text(text)) }
            }
        }
    }

    /// Writes an id as the directory does; nothing if it is none of the directory's.
    fn id_value(&self, id: &Id) -> Option<Vec<u8>> {
        match (self.settings.id_kind, id) {
            (IdKind::Guid, Id::Uuid(bytes)) => Some(swapped(*bytes).to_vec()),
            (IdKind::Uuid, Id::Uuid(_)) => Some(id.to_string().into_bytes()),
            (IdKind::Text, Id::Text(text)) => Some(text.as_bytes().to_vec()),
            _ => None,
        }
    }

    /// Reads the stored hash. With several, which of them counts is the server's secret: nobody is let in by one of
    /// them.
    fn hash(&self, entry: &Entry) -> Result<Option<StoredHash>> {
        if self.settings.mode != Mode::FetchHash {
            return Ok(None);
        }
        match entry.values(&self.settings.password_attr) {
            [] => Ok(None),
            [value] if value.is_empty() => Ok(None),
            [value] => match String::from_utf8(value.clone()) {
                Ok(text) => Ok(Some(StoredHash::new(text, None))),
                Err(_) => Err(Error::new(ErrorKind::Corrupt, "a stored password is no text")),
            },
            _ => Err(Error::new(
                ErrorKind::Ambiguous,
                "somebody has several passwords, which the mode fetch-hash can't choose from",
            )),
        }
    }

    /// Decides about somebody whose password is right, by the state of the account.
    fn admitted(&self, account: &Account) -> Verdict {
        match account.state().refusal(self.clock.wall()) {
            Some(reject) => Verdict::Rejected(reject),
            None => Verdict::Accepted(account.principal().clone()),
        }
    }

    async fn search_and_bind(&self, login: &Login, password: &Password) -> Result<Verdict> {
        let mut again = true;
        loop {
            let Some(person) = self.find(login).await? else {
                return Ok(Verdict::Rejected(Reject::UnknownUser));
            };
            let Some(text) = text(password) else { return Ok(Verdict::Rejected(Reject::BadPassword)) };
            let (answer, lent) = self.binds.bind(&person.entry.dn, text).await?;
            let bound = fault::of_bind(&answer)?;
            lent.done();
            match bound {
                Bound::Right => return Ok(self.admitted(&person.account)),
                Bound::Must(reject) => {
                    let first = person.account.state().refusal(self.clock.wall());
                    return Ok(Verdict::Rejected(first.unwrap_or(reject)));
                }
                Bound::Refused(reject) => return Ok(Verdict::Rejected(reject)),
                // It was moved, or deleted, since it was found.
                Bound::Gone if again => again = false,
                Bound::Gone => return Ok(Verdict::Rejected(Reject::UnknownUser)),
            }
        }
    }

    async fn bind_template(&self, login: &Login, password: &Password) -> Result<Verdict> {
        let Some(template) = &self.settings.user_dn else {
            return Err(Error::new(ErrorKind::Internal, "there is no template"));
        };
        let Some(text) = text(password) else { return Ok(Verdict::Rejected(Reject::BadPassword)) };
        let dn = template.fill(login.as_str());
        let (answer, lent) = self.binds.bind(&dn, text).await?;
        match fault::of_bind(&answer)? {
            Bound::Right => {}
            Bound::Must(reject) | Bound::Refused(reject) => {
                lent.done();
                return Ok(Verdict::Rejected(reject));
            }
            Bound::Gone => {
                lent.done();
                return Ok(Verdict::Rejected(Reject::UnknownUser));
            }
        }
        // Who that is, only the entry says: the server takes many spellings for one name.
        let attributes = self.attributes();
        let query = own_entry(&dn, &attributes);
        let found = lent.search(&query).await?;
        fault::of_search(&found.answer, found.entries.len(), 1)?;
        lent.done();
        let Some(entry) = found.entries.into_iter().next() else {
            return Err(wrong("people may not read their own entry, which the mode bind-template needs"));
        };
        let person = self.person(login, entry)?;
        Ok(person.map_or(Verdict::Rejected(Reject::UnknownUser), |person| self.admitted(&person.account)))
    }

    async fn compare(&self, login: &Login, password: &Password) -> Result<Verdict> {
        let mut again = true;
        loop {
            let Some(person) = self.find(login).await? else {
                return Ok(Verdict::Rejected(Reject::UnknownUser));
            };
            let attribute = &self.settings.password_attr;
            let answer = self.service.compare(&person.entry.dn, attribute, password.as_bytes()).await?;
            match fault::of_compare(&answer)? {
                Bound::Right => return Ok(self.admitted(&person.account)),
                Bound::Must(reject) | Bound::Refused(reject) => return Ok(Verdict::Rejected(reject)),
                Bound::Gone if again => again = false,
                Bound::Gone => return Ok(Verdict::Rejected(Reject::UnknownUser)),
            }
        }
    }

    async fn look_up(&self, login: &Login) -> Result<Lookup<Account>> {
        self.facts().await?;
        let person = match &self.settings.user_dn {
            None => self.find(login).await?,
            Some(_) if matches!(self.settings.identity, Identity::Nobody) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "nobody can be looked up without an account of our own",
                ));
            }
            Some(template) => {
                let (dn, attributes) = (template.fill(login.as_str()), self.attributes());
                let found = self.service.search(&own_entry(&dn, &attributes)).await?;
                if found.answer.code == 32 {
                    return Ok(Lookup::NotFound);
                }
                self.only(found)?.map_or(Ok(None), |entry| self.person(login, entry))?
            }
        };
        Ok(person.map_or(Lookup::NotFound, |person| Lookup::Found(person.account)))
    }

    async fn find_groups(&self, who: &Principal) -> Result<Lookup<GroupSet>> {
        let Some(groups) = &self.settings.groups else {
            return Err(Error::new(ErrorKind::Unsupported, "this source has no groups"));
        };
        let facts = self.facts().await?;
        let Some(id) = self.id_value(who.id()) else { return Ok(Lookup::NotFound) };
        let mut attributes = vec![self.settings.login_attr.clone()];
        attributes.extend(groups::attribute(groups.strategy).map(str::to_owned));
        // By the id alone: a login may be somebody else's by now.
        let Some(person) = self.one(&Filter::equal(&self.settings.id_attr, &id), &attributes).await? else {
            return Ok(Lookup::NotFound);
        };
        let finder = Finder { settings: &self.settings, groups, service: &self.service, paged: facts.paged };
        finder.of(&person, who.login()).await.map(Lookup::Found)
    }
}

/// The password as text, which is what a bind can send. What is no UTF-8 is nobody's password there.
fn text(password: &Password) -> Option<&str> {
    str::from_utf8(password.as_bytes()).ok()
}

fn own_entry<'a>(dn: &'a str, attributes: &'a [String]) -> Query<'a> {
    Query { base: dn, scope: Scope::Base, filter: "(objectClass=*)", attributes, limit: 1, page: None }
}

/// Reads a UUID as text.
fn uuid(text: &str) -> Option<Id> {
    let digits: String = text.split('-').collect();
    let shaped = text.len() == 36 && digits.len() == 32;
    let bits = u128::from_str_radix(&digits, 16).ok().filter(|_| shaped)?;
    Some(Id::uuid(bits))
}

/// Reads the 16 bytes of Active Directory.
fn guid(bytes: &[u8]) -> Option<Id> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    Some(Id::uuid(u128::from_be_bytes(swapped(bytes))))
}

/// The first three fields of a GUID are little-endian; turns them, either way.
const fn swapped(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

#[async_trait]
impl PasswordSource for LdapStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn verify(&self, _ctx: &Ctx, login: &Login, password: &Password) -> Result<Verdict> {
        let decide = async {
            self.facts().await?;
            match self.settings.mode {
                Mode::SearchBind => self.search_and_bind(login, password).await,
                Mode::BindTemplate => self.bind_template(login, password).await,
                Mode::Compare => self.compare(login, password).await,
                Mode::FetchHash => Err(Error::new(ErrorKind::Unsupported, "this source shows hashes")),
            }
        };
        decide.await.map_err(|error| self.at(error))
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.look_up(login).await.map_err(|error| self.at(error))
    }
}

#[async_trait]
impl AccountSource for LdapStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn account(&self, _ctx: &Ctx, login: &Login) -> Result<Lookup<Account>> {
        self.look_up(login).await.map_err(|error| self.at(error))
    }

    async fn replace_hash(
        &self,
        _ctx: &Ctx,
        _who: &Principal,
        _old: &StoredHash,
        _new: &StoredHash,
    ) -> Result<bool> {
        Err(self.at(Error::new(ErrorKind::Unsupported, "directories are only read")))
    }
}

#[async_trait]
impl GroupOracle for LdapStore {
    fn source(&self) -> &SourceInfo {
        &self.info
    }

    async fn groups_of(&self, _ctx: &Ctx, who: &Principal) -> Result<Lookup<GroupSet>> {
        self.find_groups(who).await.map_err(|error| self.at(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_back() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let id = uuid(text).unwrap();
        assert_eq!(id.to_string(), text);
        let bytes =
            [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(guid(&bytes), Some(id.clone()));
        assert!(matches!(id, Id::Uuid(uuid) if swapped(uuid) == bytes));
        for text in ["", "00112233445566778899aabbccddeeff", "0011223x-4455-6677-8899-aabbccddeeff"] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }
}

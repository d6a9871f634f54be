//! The TOML user file: users with their states and groups, and rights on objects.
//!
//! It is walked by hand, and not by derived types, since their errors quote what is written there:
//! here that may be a hash.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use auth_core::{AccountState, GroupSet, Id, Lock, check_name};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};
use toml::value::{Datetime, Offset};

use crate::contents::{Broken, Contents, Domain, Record, Rights};
use crate::htfiles::stored;

type Result<T> = std::result::Result<T, Broken>;
type Value<'i> = Spanned<DeValue<'i>>;
type Key<'i> = Spanned<DeString<'i>>;

/// Reads a user file. `scheme` is for hashes that name none.
pub(crate) fn read(text: &str, scheme: Option<&str>) -> Result<Contents> {
    let reader = Reader { text, scheme };
    let document = DeTable::parse(text).map_err(|error| {
        let twice = error.message().starts_with("duplicate key");
        let what = if twice { "this key is here for the second time" } else { "this is not valid TOML" };
        reader.broken(error.span().unwrap_or_default(), what)
    })?;
    let mut records = Vec::new();
    let mut domains = BTreeMap::new();
    let (mut users, mut objects) = (None, None);
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "user" => users = Some(value),
            "object" => objects = Some(value),
            _ => return Err(reader.broken(key.span(), "unknown table; there are `user` and `object`")),
        }
    }
    if let Some(users) = users {
        let mut ids = HashSet::new();
        for (key, value) in reader.table(users)? {
            let record = reader.user(key, value)?;
            if !ids.insert(record.id.clone()) {
                return Err(reader.broken(key.span(), "the id of this user is another user's too"));
            }
            records.push(record);
        }
    }
    if let Some(objects) = objects {
        let numbers = records.iter().enumerate().map(|(n, record)| (record.login.as_str(), n)).collect();
        for (key, value) in reader.table(objects)? {
            let mut domain = Domain::new();
            for (part, value) in reader.table(value)? {
                reader.object(&numbers, &mut domain, vec![reader.part(part)?], value)?;
            }
            domains.insert(reader.name("domain", key)?, domain);
        }
    }
    Ok(Contents::new(records).with_domains(domains))
}

struct Reader<'t> {
    text: &'t str,
    scheme: Option<&'t str>,
}

impl Reader<'_> {
    fn broken(&self, at: Range<usize>, what: impl Into<String>) -> Broken {
        let before = self.text.as_bytes().iter().take(at.start);
        Broken::new(1 + before.filter(|byte| **byte == b'\n').count(), what)
    }

    fn user(&self, key: &Key<'_>, value: &Value<'_>) -> Result<Record> {
        let login = self.name("user", key)?;
        let (mut hash, mut scheme, mut id) = (None, None, None);
        let (mut state, mut groups) = (AccountState::default(), GroupSet::empty());
        for (key, value) in self.table(value)? {
            match key.get_ref().as_ref() {
                "hash" => hash = Some(self.string(value)?.to_owned()),
                "scheme" => scheme = Some(self.string(value)?),
                "groups" => groups = self.names("group", value)?.iter().map(|(name, _)| *name).collect(),
                "disabled" => state.disabled = self.flag(value)?,
                "locked" => state.lock = self.lock(value)?,
                "not_before" => state.not_before = Some(self.time(value)?),
                "expires_at" => state.expires_at = Some(self.time(value)?),
                "password_expires_at" => state.password_expires_at = Some(self.time(value)?),
                "must_change" => state.must_change = self.flag(value)?,
                "id" => id = Some(self.id(value)?),
                _ => {
                    let known = "unknown key; a user has hash, scheme, groups, disabled, locked, not_before, \
                                 expires_at, password_expires_at, must_change, id";
                    return Err(self.broken(key.span(), known));
                }
            }
        }
        // An empty hash is no password, as in an htpasswd file.
        let hash = hash.filter(|hash| !hash.is_empty()).map(|hash| stored(hash, scheme, self.scheme));
        let id = id.unwrap_or_else(|| Id::text(&login));
        Ok(Record { login, id, hash, state, groups })
    }

    /// An array is a mode and who has it; a table is a further part of the id.
    fn object(
        &self,
        users: &HashMap<&str, usize>,
        domain: &mut Domain,
        id: Vec<String>,
        value: &Value<'_>,
    ) -> Result<()> {
        let table = self.table(value)?;
        let mut rights = Rights::new();
        let mut is_object = table.is_empty();
        for (key, value) in table {
            if let DeValue::Table(_) = value.get_ref() {
                let mut longer = id.clone();
                longer.push(self.part(key)?);
                self.object(users, domain, longer, value)?;
                continue;
            }
            is_object = true;
            let mode = self.name("mode", key)?;
            for (login, at) in self.names("user", value)? {
                let Some(number) = users.get(login) else {
                    let what = "this file has no such user; rights name users as `user` spells them";
                    return Err(self.broken(at, what));
                };
                rights.push((*number, mode.clone()));
            }
        }
        if is_object {
            domain.insert(id, rights);
        }
        Ok(())
    }

    fn table<'v, 'i>(&self, value: &'v Value<'i>) -> Result<&'v DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.broken(value.span(), "a table is expected here")),
        }
    }

    fn string<'v>(&self, value: &'v Value<'_>) -> Result<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.broken(value.span(), "a text is expected here")),
        }
    }

    fn flag(&self, value: &Value<'_>) -> Result<bool> {
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(*flag),
            _ => Err(self.broken(value.span(), "`true` or `false` is expected here")),
        }
    }

    fn lock(&self, value: &Value<'_>) -> Result<Lock> {
        match value.get_ref() {
            DeValue::Boolean(true) => Ok(Lock::Locked),
            DeValue::Boolean(false) => Ok(Lock::Open),
            DeValue::Datetime(_) => Ok(Lock::Until(self.time(value)?)),
            _ => Err(self.broken(value.span(), "`true`, `false` or a time is expected here")),
        }
    }

    fn id(&self, value: &Value<'_>) -> Result<Id> {
        match value.get_ref() {
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Ok(Id::Int(number)),
                Err(_) => Err(self.broken(value.span(), "this number is too large for an id")),
            },
            DeValue::String(text) => {
                check_name("user", text).map_err(|error| self.broken(value.span(), error.message()))?;
                Ok(Id::text(text))
            }
            _ => Err(self.broken(value.span(), "a number or a text is expected here")),
        }
    }

    fn time(&self, value: &Value<'_>) -> Result<SystemTime> {
        let time = match value.get_ref() {
            DeValue::Datetime(time) => instant(time),
            _ => None,
        };
        time.ok_or_else(|| {
            let what = "a time with its offset is expected here, such as 2026-01-01T00:00:00Z";
            self.broken(value.span(), what)
        })
    }

    fn name(&self, what: &'static str, key: &Key<'_>) -> Result<String> {
        let name = key.get_ref();
        check_name(what, name).map_err(|error| self.broken(key.span(), error.message()))?;
        Ok(name.clone().into_owned())
    }

    fn part(&self, key: &Key<'_>) -> Result<String> {
        self.name("object", key)
    }

    fn names<'v>(&self, what: &'static str, value: &'v Value<'_>) -> Result<Vec<(&'v str, Range<usize>)>> {
        let DeValue::Array(array) = value.get_ref() else {
            return Err(self.broken(value.span(), "a list of names is expected here"));
        };
        let names = array.iter().map(|value| {
            let name = self.string(value)?;
            check_name(what, name).map_err(|error| self.broken(value.span(), error.message()))?;
            Ok((name, value.span()))
        });
        names.collect()
    }
}

/// The instant that a full date and time with an offset names.
fn instant(time: &Datetime) -> Option<SystemTime> {
    let (date, clock) = (time.date?, time.time?);
    let offset = match time.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = i64::from(clock.hour) * 60 + i64::from(clock.minute) - offset;
    let seconds = days * 86_400 + minutes * 60 + i64::from(clock.second.unwrap_or_default());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let instant = if seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
    instant?.checked_add(Duration::from_nanos(u64::from(clock.nanosecond.unwrap_or_default())))
}

/// Counts days in the Gregorian calendar; years begin in March, so that a leap day is a year's last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (century, of_century) = (year.div_euclid(100), year.rem_euclid(100));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    century.div_euclid(4) * 146_097 + century.rem_euclid(4) * 36_524 + of_century * 1_461 / 4 + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contents::Found;
    use auth_core::LoginRule;

    const RULE: LoginRule = LoginRule::CaseMapped;

    fn user(text: &str) -> Record {
        let contents = read(&format!("[user.calvin]\n{text}"), None).unwrap();
        let Found::One(record) = contents.account(RULE, "calvin") else { panic!("calvin is there") };
        record.clone()
    }

    #[test]
    fn a_user_may_have_everything_or_nothing() {
        let bare = user("");
        assert_eq!((bare.hash.clone(), bare.state.clone()), (None, AccountState::default()));
        assert_eq!((bare.id, bare.groups.is_empty()), (Id::text("calvin"), true));
        let full = user(
            "hash = \"x\"\nscheme = \"hex_md5\"\ngroups = [\"b\", \"a\"]\ndisabled = true\nlocked = true\n\
             must_change = true\nid = 0x10\nexpires_at = 1970-01-02T00:00:00Z",
        );
        assert_eq!(full.hash.unwrap().scheme(), Some("hex_md5"));
        assert_eq!(full.groups.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(full.state.disabled && full.state.must_change);
        assert_eq!((full.state.lock, full.id), (Lock::Locked, Id::Int(16)));
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(full.state.expires_at, Some(day));
        assert_eq!(user("locked = 1970-01-02T00:00:00Z").state.lock, Lock::Until(day));
        assert_eq!(user("id = \"16\"").id, Id::text("16"));
    }

    #[test]
    fn times_are_instants() {
        let check = |text: &str, seconds: i64, nanos: u32| {
            let time = instant(&text.parse().unwrap()).unwrap();
            let whole = Duration::from_secs(seconds.unsigned_abs());
            let epoch = SystemTime::UNIX_EPOCH;
            let expected = if seconds < 0 { epoch - whole } else { epoch + whole };
            assert_eq!(time, expected + Duration::from_nanos(nanos.into()), "{text}");
        };
        check("1970-01-01T00:00:00Z", 0, 0);
        check("2001-01-01T00:00:00Z", 978_307_200, 0);
        check("2000-02-29T23:59:59Z", 951_868_799, 0);
        check("2000-03-01T00:00:00.5Z", 951_868_800, 500_000_000);
        check("2037-01-01T02:30:00+02:30", 2_114_380_800, 0);
        check("1969-12-31T23:00:00-01:00", 0, 0);
        check("1969-12-31T23:59:58Z", -2, 0);
        check("1900-03-01T00:00:00Z", -2_203_891_200, 0);
        for partial in ["2001-01-01", "2001-01-01T00:00:00", "12:00:00"] {
            assert_eq!(instant(&partial.parse().unwrap()), None, "{partial}");
        }
    }

    #[test]
    fn an_object_is_a_table_and_a_longer_id_a_table_in_it() {
        let text = "[user.calvin]\n[object.doc.1]\nread = [\"calvin\"]\n[object.doc.2]\n[object.page.wiki.42]\n\
                    read = []\n[object.empty]\n";
        let contents = read(text, None).unwrap();
        let domains = contents.domains().unwrap();
        assert_eq!(domains.keys().collect::<Vec<_>>(), ["doc", "empty", "page"]);
        let ids = |domain: &str| {
            let mut ids: Vec<_> = domains[domain].keys().map(|id| id.join("/")).collect();
            ids.sort();
            ids
        };
        assert_eq!(
            (ids("doc"), ids("page"), ids("empty")),
            (vec!["1".into(), "2".into()], vec!["wiki/42".into()], vec![])
        );
        assert_eq!(domains["doc"][&["1".to_owned()][..]], [(0, "read".to_owned())]);
    }

    #[test]
    fn what_can_not_be_read_is_named_by_line_and_never_shown() {
        let check = |text: &str, line: usize, hint: &str| {
            let broken = read(text, None).unwrap_err();
            assert_eq!(broken.line, line, "{text:?}: {}", broken.what);
            assert!(broken.what.contains(hint), "{text:?}: {}", broken.what);
            assert!(!broken.what.contains("s3cret"), "{}", broken.what);
        };
        check("[user.calvin]\nhash = s3cret", 2, "not valid TOML");
        check("[user.calvin]\nhash = \"s3cret", 2, "not valid TOML");
        check("[user.calvin]\n\n[user.calvin]", 3, "second time");
        check("[users.calvin]\nhash = \"s3cret\"", 1, "`user` and `object`");
        check("[user.calvin]\nhassh = \"s3cret\"", 2, "a user has hash");
        check("[user.calvin]\nhash = 1", 2, "a text");
        check("[user.calvin]\ndisabled = \"s3cret\"", 2, "`true` or `false`");
        check("[user.calvin]\nlocked = \"s3cret\"", 2, "or a time");
        check("[user.calvin]\nexpires_at = 2026-01-01", 2, "offset");
        check("[user.calvin]\nexpires_at = \"s3cret\"", 2, "offset");
        check("[user.calvin]\ngroups = \"staff\"", 2, "a list");
        check("[user.calvin]\ngroups = [\n\"staff\",\n3]", 4, "a text");
        check("[user.calvin]\ngroups = [\"\"]", 2, "empty");
        check("[user.calvin]\nid = 1.5", 2, "a number or a text");
        check("[user.calvin]\nid = 99999999999999999999", 2, "too large");
        check("[user.\"\"]", 1, "empty");
        check("[user]\ncalvin = \"s3cret\"", 2, "a table");
        check("[user.calvin]\nid = 7\n[user.susie]\nid = 7", 3, "another user's");
        check("[object.doc.1]\nread = [\n\"calvin\"]", 3, "no such user");
        check("[object.doc]\nread = [\"calvin\"]", 2, "a table");
        check("[object.doc.1]\nread = \"calvin\"", 2, "a list");
    }
}

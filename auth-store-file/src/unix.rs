//! Files in the style of `/etc/passwd`, `/etc/shadow` and `/etc/group`.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use auth_core::{AccountState, GroupSet, Id, Lock, StoredHash, check_name};

use crate::contents::{Broken, Record};
use crate::htfiles::{lines, stored};

type Result<T> = std::result::Result<T, Broken>;

/// A passwd file's users, each with the number of the first group.
pub(crate) struct Passwd(Vec<(Record, i64)>);

/// A group: its name, its number, and the logins that its line lists.
pub(crate) type Group = (String, i64, Vec<String>);

impl Passwd {
    /// Reads a passwd file; what a shadow file says of somebody counts where the hash is `x`. `scheme` is for hashes that
    /// name none.
    pub(crate) fn read(text: &str, scheme: Option<&str>, shadow: Option<&[Record]>) -> Result<Self> {
        let mut hidden: HashMap<&str, Vec<&Record>> = HashMap::new();
        for record in shadow.unwrap_or_default() {
            hidden.entry(&record.login).or_default().push(record);
        }
        let mut users: Vec<(Record, i64)> = Vec::new();
        let mut owners: HashMap<i64, &str> = HashMap::new();
        for (number, line) in lines(text) {
            let mut fields = line.split(':');
            let (login, hash) = start(number, &mut fields)?;
            let uid = whole(number, "uid", fields.next())?;
            let gid = whole(number, "gid", fields.next())?;
            let (Some(uid), Some(gid)) = (uid, gid) else {
                return Err(Broken::new(number, "a line of a passwd file is login:x:uid:gid:…"));
            };
            if *owners.entry(uid).or_insert(login) != login {
                return Err(Broken::new(number, "the uid of this user is another user's too"));
            }
            let mut add = |hash, state| {
                let (login, id, groups) = (login.to_owned(), Id::Int(uid), GroupSet::empty());
                users.push((Record { login, id, hash, state, groups }, gid));
            };
            match (hash, hidden.get(login)) {
                ("x", Some(all)) => all.iter().for_each(|found| add(found.hash.clone(), found.state.clone())),
                // There is a hash, and it is elsewhere.
                ("x", None) => add(None, AccountState::default()),
                (hash, _) => {
                    let (hash, lock) = password(hash, scheme);
                    add(hash, AccountState { lock, ..AccountState::default() });
                }
            }
        }
        Ok(Self(users))
    }

    /// Adds to the members that groups list those whose first group it is.
    pub(crate) fn complete(&self, groups: &mut [Group]) {
        for (_, gid, members) in groups {
            let first = self.0.iter().filter(|(_, first)| first == gid);
            members.extend(first.map(|(record, _)| record.login.clone()));
        }
    }

    pub(crate) fn into_records(self) -> Vec<Record> {
        self.0.into_iter().map(|(record, _)| record).collect()
    }
}

/// Reads the users of a shadow file: login, hash, day of the last change, least age, greatest age, days of warning, days
/// after which an old password ends the account, and the day on which the account ends. Days count from 1970; what is
/// empty or -1 does not count.
pub(crate) fn shadow(text: &str, scheme: Option<&str>) -> Result<Vec<Record>> {
    let read = |(number, line): (usize, &str)| {
        if line.split(':').count() > 9 {
            return Err(Broken::new(number, "this line has more fields than one of a shadow file"));
        }
        let mut fields = line.split(':');
        let (login, hash) = start(number, &mut fields)?;
        let [changed, _least, greatest, _warning, inactive, ends, _] =
            ["last change", "least age", "greatest age", "warning", "inactive", "expire", "reserved"]
                .map(|name| (name, fields.next()));
        let days = |(name, field): (&'static str, Option<&str>)| {
            Ok(whole(number, name, field)?.filter(|days| *days >= 0))
        };
        let (changed, greatest, inactive, ends) =
            (days(changed)?, days(greatest)?, days(inactive)?, days(ends)?);
        let (hash, lock) = password(hash, scheme);
        let must_change = changed == Some(0);
        // The password is good on the last of its days, and the account on that of its own.
        let old = changed.filter(|_| !must_change).zip(greatest);
        let old = old.map(|(changed, greatest)| changed.saturating_add(greatest).saturating_add(1));
        let idle = old.zip(inactive).map(|(old, inactive)| old.saturating_add(inactive));
        let state = AccountState {
            lock,
            must_change,
            password_expires_at: old.and_then(day),
            expires_at: [ends, idle].into_iter().flatten().min().and_then(day),
            ..AccountState::default()
        };
        let (id, login) = (Id::text(login), login.to_owned());
        Ok(Record { login, id, hash, state, groups: GroupSet::empty() })
    };
    lines(text).map(read).collect()
}

/// Reads a group file: name, password, number, members.
pub(crate) fn groups(text: &str) -> Result<Vec<Group>> {
    let read = |(number, line): (usize, &str)| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        check_name("group", name).map_err(|error| Broken::new(number, error.message()))?;
        let (_, gid, members) = (fields.next(), whole(number, "gid", fields.next())?, fields.next());
        let Some(gid) = gid else {
            return Err(Broken::new(number, "a line of a group file is name:x:gid:member,member"));
        };
        let members = members.unwrap_or_default().split(',').map(str::trim);
        let members = members.filter(|member| !member.is_empty()).map(str::to_owned);
        Ok((name.to_owned(), gid, members.collect()))
    };
    lines(text).map(read).collect()
}

/// Reads login and hash, with which both kinds of lines begin.
fn start<'t>(number: usize, fields: &mut impl Iterator<Item = &'t str>) -> Result<(&'t str, &'t str)> {
    let login = fields.next().unwrap_or_default();
    check_name("user", login).map_err(|error| Broken::new(number, error.message()))?;
    let Some(hash) = fields.next() else {
        return Err(Broken::new(number, "this line has no colon after a login"));
    };
    if hash.chars().any(char::is_control) {
        return Err(Broken::new(number, "this hash has control characters"));
    }
    Ok((login, hash))
}

/// Reads what stands in the place of the hash. An empty one lets anybody in elsewhere, and nobody here. An exclamation
/// mark before a hash locks the account; `*`, `!`, `!!` and the like are no password.
fn password(text: &str, scheme: Option<&str>) -> (Option<StoredHash>, Lock) {
    let hash = text.trim_start_matches('!');
    let none = hash.is_empty() || hash.starts_with('*');
    match (none, hash.len() < text.len()) {
        (true, _) => (None, Lock::Open),
        (false, true) => (Some(stored(hash.to_owned(), None, scheme)), Lock::Locked),
        (false, false) => (Some(stored(hash.to_owned(), None, scheme)), Lock::Open),
    }
}

fn whole(line: usize, name: &'static str, field: Option<&str>) -> Result<Option<i64>> {
    match field.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => {
            let number = text.parse().map_err(|_| Broken::new(line, format!("`{name}` is no whole number")));
            number.map(Some)
        }
    }
}

/// The beginning of a day; nothing for one that no clock reaches.
fn day(days: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(days).ok()?.checked_mul(86_400)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth_core::Reject;

    fn on(day: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400 + 43_200)
    }

    fn one(line: &str) -> Record {
        shadow(line, None).unwrap().remove(0)
    }

    #[test]
    fn the_days_of_a_shadow_file_are_states() {
        let check = |rest: &str, day: u64, refusal: Option<Reject>| {
            let state = one(&format!("calvin:$6$x:{rest}")).state;
            assert_eq!(state.refusal(on(day)), refusal, "{rest} on {day}: {state:?}");
        };
        check("", 20_000, None);
        check("19000:0:99999:7:::", 100_000, None);
        check("0:0:99999:7:::", 20_000, Some(Reject::MustChange));
        check("0:0:1:7:1::", 20_000, Some(Reject::MustChange));
        // A greatest age of 90 days, counted from the last change.
        check("20000:0:90:7:::", 20_090, None);
        check("20000:0:90:7:::", 20_091, Some(Reject::PasswordExpired));
        check("20000:0:90:7:14::", 20_104, Some(Reject::PasswordExpired));
        check("20000:0:90:7:14::", 20_105, Some(Reject::AccountExpired));
        check("20000:0:90:7:0::", 20_091, Some(Reject::AccountExpired));
        check("20000:0:-1:7:14::", 50_000, None);
        check(":0:90:7:14::", 50_000, None);
        // The account's own end, which is the day on which it is no longer good.
        check("20000:0:99999:7::20100:", 20_099, None);
        check("20000:0:99999:7::20100:", 20_100, Some(Reject::AccountExpired));
        check("20000:0:90:7:14:20050:", 20_050, Some(Reject::AccountExpired));
        check("20000:0:90:7:14:-1:", 20_050, None);
        check("20000:::::0:", 20_050, Some(Reject::AccountExpired));
        check("9223372036854775807:0:9223372036854775807:7:::", 20_000, None);
    }

    #[test]
    fn what_stands_for_no_password_is_none() {
        for none in ["", "*", "!", "!!", "!*", "*LK*", "*NP*", "!!*"] {
            let record = one(&format!("calvin:{none}:20000::::::"));
            assert_eq!((record.hash, record.state.lock), (None, Lock::Open), "{none}");
        }
        for locked in ["!$6$x$y", "!!$6$x$y"] {
            let record = one(&format!("calvin:{locked}:20000::::::"));
            assert_eq!(record.hash.as_ref().map(StoredHash::as_str), Some("$6$x$y"));
            assert_eq!(
                record.state.refusal(on(1)),
                Some(Reject::Locked),
                "told after the right password only"
            );
        }
    }

    #[test]
    fn a_passwd_file_takes_from_the_shadow_file_what_it_says_x_to() {
        let hidden = shadow("calvin:$6$c:0::::::\nsusie:$6$s\nsusie:$6$t\nmoe:$6$m\n", None).unwrap();
        let text = "calvin:x:1000:100:Calvin,,,:/home/calvin:/bin/sh\n# nobody\nsusie:x:1001:100::/:\n\
                    moe:$5$own:1002:100::/:\ndad:x:1003:100::/:\nmom::1004:100::/:\n";
        let read = Passwd::read(text, None, Some(&hidden)).unwrap().into_records();
        let shown: Vec<_> = read
            .iter()
            .map(|record| {
                (record.login.as_str(), record.id.clone(), record.hash.as_ref().map(StoredHash::as_str))
            })
            .collect();
        let expected = [
            ("calvin", Id::Int(1000), Some("$6$c")),
            ("susie", Id::Int(1001), Some("$6$s")),
            ("susie", Id::Int(1001), Some("$6$t")),
            ("moe", Id::Int(1002), Some("$5$own")),
            ("dad", Id::Int(1003), None),
            ("mom", Id::Int(1004), None),
        ];
        assert_eq!(shown, expected);
        assert!(read.first().is_some_and(|calvin| calvin.state.must_change));
        let alone = Passwd::read("calvin:x:1000:100", None, None).unwrap().into_records();
        assert_eq!(alone.first().map(|record| record.hash.clone()), Some(None));
    }

    #[test]
    fn a_group_has_the_members_of_its_line_and_those_whose_first_group_it_is() {
        let users = Passwd::read("calvin:x:1:100\nsusie:x:2:200\n", None, None).unwrap();
        let mut read = groups("staff:x:100:susie, moe\nadmin:*:200:\nghosts:x:300\n").unwrap();
        users.complete(&mut read);
        let members = |n: usize| read[n].2.join(" ");
        assert_eq!(
            (members(0), members(1), members(2)),
            ("susie moe calvin".into(), "susie".into(), String::new())
        );
    }

    #[test]
    fn a_line_that_can_not_be_read_is_named_and_not_shown() {
        let check = |broken: std::result::Result<(), Broken>, line: usize| {
            let broken = broken.unwrap_err();
            assert_eq!(broken.line, line, "{}", broken.what);
            assert!(!broken.what.contains("s3cret"), "{}", broken.what);
        };
        let of_shadow = |text: &str, line| check(shadow(text, None).map(drop), line);
        of_shadow("calvin:x\ns3cret", 2);
        of_shadow("calvin:s3cret:s3cret:", 1);
        of_shadow("calvin:s3cret:20000:0:90:7:14:s3cret:", 1);
        of_shadow("calvin:s3cret:99999999999999999999", 1);
        of_shadow("calvin:s3cret:::::::::", 1);
        of_shadow(":s3cret:", 1);
        let of_passwd = |text: &str, line| check(Passwd::read(text, None, None).map(drop), line);
        of_passwd("calvin:s3cret", 1);
        of_passwd("calvin:s3cret:1000", 1);
        of_passwd("calvin:s3cret:s3cret:100", 1);
        of_passwd("root:x:0:0\ntoor:s3cret:0:0", 2);
        let of_groups = |text: &str, line| check(groups(text).map(drop), line);
        of_groups("staff:x:100:a\nadmin", 2);
        of_groups(":x:100:a", 1);
        of_groups("staff:x:s3cret:a", 1);
    }
}

//! What an entry says of its account beside the password, by preset.

use std::time::{Duration, SystemTime};

use auth_core::{AccountState, Error, ErrorKind, Lock, Result};

use crate::config::{Mode, Preset};
use crate::wire::Entry;

const OPENLDAP: &[&str] = &["pwdAccountLockedTime", "pwdReset", "pwdStartTime", "pwdEndTime", "shadowExpire"];
const DS389: &[&str] = &["nsAccountLock", "accountUnlockTime", "passwordExpirationTime", "shadowExpire"];
const AD: &[&str] = &[
    "userAccountControl",
    "accountExpires",
    "pwdLastSet",
    "msDS-User-Account-Control-Computed",
    "msDS-UserPasswordExpiryTimeComputed",
];

/// The time that means "locked until somebody unlocks it" in OpenLDAP.
const FOR_EVER: &str = "000001010000Z";

/// From 1601, where Active Directory's time begins, to 1970.
const FILETIME_EPOCH: u64 = 11_644_473_600;

/// Lists what to ask for.
pub(crate) const fn attributes(preset: Preset) -> &'static [&'static str] {
    match preset {
        Preset::OpenLdap => OPENLDAP,
        Preset::Ad => AD,
        Preset::Ds389 => DS389,
    }
}

/// Reads the state. Where the server itself decides about logins, what it alone can know, when a lock or a password
/// ends, is left to it.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) if a value can't be read.
pub(crate) fn read(preset: Preset, mode: Mode, entry: &Entry) -> Result<AccountState> {
    let server_decides = matches!(mode, Mode::SearchBind | Mode::BindTemplate);
    match preset {
        Preset::OpenLdap => openldap(entry, server_decides),
        Preset::Ad => active_directory(entry, server_decides),
        Preset::Ds389 => ds389(entry, server_decides),
    }
}

fn openldap(entry: &Entry, server_decides: bool) -> Result<AccountState> {
    let lock = match entry.text("pwdAccountLockedTime") {
        Some(FOR_EVER) => Lock::Locked,
        // For how long is written in the policy.
        Some(_) if !server_decides => Lock::Locked,
        _ => Lock::Open,
    };
    let ends = [time(entry, "pwdEndTime")?, days(entry, "shadowExpire")?].into_iter().flatten().min();
    Ok(AccountState {
        lock,
        not_before: time(entry, "pwdStartTime")?,
        expires_at: ends,
        must_change: flag(entry, "pwdReset"),
        ..AccountState::default()
    })
}

fn ds389(entry: &Entry, server_decides: bool) -> Result<AccountState> {
    let lock = match time(entry, "accountUnlockTime")? {
        _ if server_decides => Lock::Open,
        None => Lock::Open,
        Some(SystemTime::UNIX_EPOCH) => Lock::Locked,
        Some(until) => Lock::Until(until),
    };
    let password = time(entry, "passwordExpirationTime")?.filter(|_| !server_decides);
    let must_change = password == Some(SystemTime::UNIX_EPOCH);
    Ok(AccountState {
        disabled: flag(entry, "nsAccountLock"),
        lock,
        expires_at: days(entry, "shadowExpire")?,
        password_expires_at: password.filter(|_| !must_change),
        must_change,
        ..AccountState::default()
    })
}

fn active_directory(entry: &Entry, server_decides: bool) -> Result<AccountState> {
    const DISABLED: i64 = 0x2;
    const LOCKED: i64 = 0x10;
    let control = number(entry, "userAccountControl")?.unwrap_or_default();
    let computed = number(entry, "msDS-User-Account-Control-Computed")?.unwrap_or_default();
    let password = filetime(entry, "msDS-UserPasswordExpiryTimeComputed")?.filter(|_| !server_decides);
    Ok(AccountState {
        disabled: control & DISABLED != 0,
        lock: if computed & LOCKED != 0 && !server_decides { Lock::Locked } else { Lock::Open },
        expires_at: filetime(entry, "accountExpires")?,
        password_expires_at: password,
        must_change: !server_decides && number(entry, "pwdLastSet")? == Some(0),
        ..AccountState::default()
    })
}

fn flag(entry: &Entry, name: &str) -> bool {
    entry.text(name).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn unreadable(name: &str) -> Error {
    Error::new(ErrorKind::Corrupt, "the state of an account can't be read").with("attribute", name)
}

fn number(entry: &Entry, name: &str) -> Result<Option<i64>> {
    entry.text(name).map(|text| text.trim().parse().map_err(|_| unreadable(name))).transpose()
}

/// Reads days since 1970; a negative number, or none, is no end.
fn days(entry: &Entry, name: &str) -> Result<Option<SystemTime>> {
    let days = number(entry, name)?.and_then(|days| u64::try_from(days).ok());
    Ok(days.and_then(|days| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days.saturating_mul(86_400)))
    }))
}

/// Reads a time of Active Directory: 100 nanoseconds since 1601; zero and what is too late to be a date is no end.
fn filetime(entry: &Entry, name: &str) -> Result<Option<SystemTime>> {
    let Some(ticks) =
        number(entry, name)?.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks != 0)
    else {
        return Ok(None);
    };
    if ticks >= 0x7fff_ffff_ffff_ffff {
        return Ok(None);
    }
    let since_1970 = Duration::from_secs((ticks / 10_000_000).saturating_sub(FILETIME_EPOCH));
    Ok(SystemTime::UNIX_EPOCH.checked_add(since_1970))
}

fn time(entry: &Entry, name: &str) -> Result<Option<SystemTime>> {
    entry.text(name).map(|text| generalized(text).ok_or_else(|| unreadable(name))).transpose()
}

/// Reads a generalized time: `20260131235959Z`, with or without minutes, seconds, a fraction or an offset. What is
/// before 1970 is 1970.
fn generalized(text: &str) -> Option<SystemTime> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let part = |from: usize, to: usize| digits.get(from..to).map(|part| part.parse::<i64>().ok());
    let (year, month, day, hour) = (part(0, 4)??, part(4, 6)??, part(6, 8)??, part(8, 10)??);
    let minute = part(10, 12).unwrap_or(Some(0))?;
    let second = part(12, 14).unwrap_or(Some(0))?;
    if !matches!(digits.len(), 10 | 12 | 14) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = rest
        .strip_prefix(['.', ','])
        .map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = match zone.split_at_checked(1) {
        None | Some(("Z", "")) => 0,
        Some((sign @ ("+" | "-"), rest)) => {
            let hours: i64 = rest.get(..2)?.parse().ok()?;
            let minutes: i64 = if rest.len() > 2 { rest.get(2..)?.parse().ok()? } else { 0 };
            (hours * 60 + minutes) * if sign == "+" { 60 } else { -60 }
        }
        Some(_) => return None,
    };
    // The days of the Gregorian calendar, counted from a year that begins in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(attributes: &[(&str, &str)]) -> Entry {
        Entry::made("uid=calvin", attributes)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn generalized_times_are_read() {
        for (text, seconds) in [
            ("19700101000000Z", 0),
            ("20260131235959Z", 1_769_903_999),
            ("20240229120000Z", 1_709_208_000),
            ("202402291200Z", 1_709_208_000),
            ("2024022912Z", 1_709_208_000),
            ("20240229120000.123Z", 1_709_208_000),
            ("20240229130000+0100", 1_709_208_000),
            ("20240229120000", 1_709_208_000),
            ("16010101000000Z", 0),
        ] {
            assert_eq!(generalized(text), Some(at(seconds)), "{text}");
        }
        for text in ["", "2024", "20241301000000Z", "20240101250000Z", "20240101000000X", "2024010100000Z"] {
            assert_eq!(generalized(text), None, "{text}");
        }
    }

    #[test]
    fn the_state_of_active_directory_is_read() {
        let read =
            |attributes: &[(&str, &str)]| read(Preset::Ad, Mode::FetchHash, &entry(attributes)).unwrap();
        let open = read(&[
            ("useraccountcontrol", "512"),
            ("accountexpires", "9223372036854775807"),
            ("pwdlastset", "133000000000000000"),
        ]);
        assert_eq!(open, AccountState::default());
        assert!(read(&[("useraccountcontrol", "514")]).disabled);
        assert_eq!(read(&[("accountexpires", "116444736010000000")]).expires_at, Some(at(1)));
        assert_eq!(read(&[("accountexpires", "0")]).expires_at, None);
        assert!(read(&[("pwdlastset", "0")]).must_change);
        assert_eq!(read(&[("msds-user-account-control-computed", "16")]).lock, Lock::Locked);
    }

    #[test]
    fn the_state_of_openldap_and_389_ds_is_read() {
        let open =
            |mode, attributes: &[(&str, &str)]| read(Preset::OpenLdap, mode, &entry(attributes)).unwrap();
        assert_eq!(open(Mode::SearchBind, &[("pwdaccountlockedtime", FOR_EVER)]).lock, Lock::Locked);
        assert_eq!(open(Mode::SearchBind, &[("pwdaccountlockedtime", "20240229120000Z")]).lock, Lock::Open);
        assert_eq!(open(Mode::FetchHash, &[("pwdaccountlockedtime", "20240229120000Z")]).lock, Lock::Locked);
        let both = open(Mode::FetchHash, &[("shadowexpire", "11323"), ("pwdendtime", "20240229120000Z")]);
        assert_eq!(both.expires_at, Some(at(978_307_200)));
        assert_eq!(open(Mode::FetchHash, &[("shadowexpire", "-1")]).expires_at, None);
        let ds = |mode, attributes: &[(&str, &str)]| read(Preset::Ds389, mode, &entry(attributes)).unwrap();
        assert!(ds(Mode::SearchBind, &[("nsaccountlock", "TRUE")]).disabled);
        assert_eq!(ds(Mode::FetchHash, &[("accountunlocktime", "19700101000000Z")]).lock, Lock::Locked);
        assert!(ds(Mode::FetchHash, &[("passwordexpirationtime", "19700101000000Z")]).must_change);
        assert!(
            ds(Mode::FetchHash, &[("passwordexpirationtime", "20240229120000Z")])
                .password_expires_at
                .is_some()
        );
    }

    #[test]
    fn a_state_that_can_not_be_read_is_an_error() {
        for (preset, name) in [
            (Preset::OpenLdap, "shadowexpire"),
            (Preset::Ad, "useraccountcontrol"),
            (Preset::Ds389, "accountunlocktime"),
        ] {
            let error = read(preset, Mode::SearchBind, &entry(&[(name, "soon")])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        }
    }
}

//! What comes back: cells of a row, read strictly.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use auth_core::Id;

/// A value as the database returned it.
#[derive(Default)]
pub(crate) enum Cell {
    #[default]
    Null,
    Int(i64),
    Text(String),
    Uuid([u8; 16]),
    Time(SystemTime),
    /// What answers no question: what it is.
    Other(&'static str),
}

/// What a cell was instead of what was due. Never the value: it may be a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// One row.
pub(crate) struct Row(Vec<Cell>);

impl Row {
    pub(crate) const fn new(cells: Vec<Cell>) -> Self {
        Self(cells)
    }

    /// Takes a cell out of the row; a column that is not there reads as NULL.
    pub(crate) fn take(&mut self, column: usize) -> Cell {
        self.0.get_mut(column).map(std::mem::take).unwrap_or_default()
    }

    /// Looks at a text without taking it.
    pub(crate) fn peek_text(&self, column: usize) -> Option<&str> {
        match self.0.get(column)? {
            Cell::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A value, or what was there instead.
pub(crate) type Read<T> = Result<T, Unreadable>;

impl Cell {
    const fn what(&self) -> Unreadable {
        Unreadable(match self {
            Self::Null => "NULL",
            Self::Int(_) => "a whole number",
            Self::Text(_) => "a text",
            Self::Uuid(_) => "a UUID",
            Self::Time(_) => "a time",
            Self::Other(what) => what,
        })
    }

    /// Reads a text; whole numbers by their digits, since SQLite keeps "007" as it likes.
    pub(crate) fn text(self) -> Read<Option<String>> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Int(number) => Ok(Some(number.to_string())),
            Self::Uuid(bytes) => Ok(Some(Id::Uuid(bytes).to_string())),
            other => Err(other.what()),
        }
    }

    /// Reads a text that says nothing if it is empty.
    pub(crate) fn filled_text(self) -> Read<Option<String>> {
        match self {
            Self::Int(_) | Self::Uuid(_) => Err(self.what()),
            other => Ok(other.text()?.filter(|text| !text.is_empty())),
        }
    }

    /// Reads a text that must be there.
    pub(crate) fn name(self) -> Read<String> {
        match self.text()? {
            Some(name) if name.is_empty() => Err(Unreadable("an empty text")),
            Some(name) => Ok(name),
            None => Err(Unreadable("NULL")),
        }
    }

    /// Reads a whole number.
    pub(crate) fn whole(self) -> Read<Option<i64>> {
        match self {
            Self::Null => Ok(None),
            Self::Int(number) => Ok(Some(number)),
            other => Err(other.what()),
        }
    }

    /// Reads a flag: 0 and NULL are off, any other whole number is on.
    pub(crate) fn flag(self) -> Read<bool> {
        match self {
            Self::Null => Ok(false),
            Self::Int(number) => Ok(number != 0),
            other => Err(other.what()),
        }
    }

    /// Reads whether a row says yes: `SELECT 1` does; `SELECT count(*)` and `SELECT EXISTS(…)` may say 0.
    ///
    /// So does a text: of what there is (`SELECT title …`), unless it is one that means no.
    pub(crate) fn yes(self) -> Read<bool> {
        match self {
            Self::Text(text) => Ok(!is_no(&text)),
            Self::Uuid(_) => Ok(true),
            other => other.flag(),
        }
    }

    /// Reads an id, with its type.
    pub(crate) fn id(self) -> Read<Id> {
        match self {
            Self::Int(number) => Ok(Id::Int(number)),
            Self::Text(text) if text.is_empty() => Err(Unreadable("an empty text")),
            Self::Text(text) => Ok(Id::Text(Arc::from(text))),
            Self::Uuid(bytes) => Ok(Id::Uuid(bytes)),
            other => Err(other.what()),
        }
    }

    /// Reads a time: seconds since 1970, or text.
    pub(crate) fn time(self) -> Read<Option<SystemTime>> {
        let out_of_range = Unreadable("a time out of range");
        match self {
            Self::Null => Ok(None),
            Self::Time(time) => Ok(Some(time)),
            Self::Int(seconds) => from_unix(seconds, 0).map(Some).ok_or(out_of_range),
            Self::Text(text) => parse_time(&text).map(Some).ok_or(Unreadable("a text that is no time")),
            other => Err(other.what()),
        }
    }
}

/// The texts that mean no in a column of flags, besides zeros and blanks.
const NOS: [&str; 5] = ["f", "false", "n", "no", "off"];

fn is_no(text: &str) -> bool {
    let text = text.trim();
    text.is_empty()
        || NOS.iter().any(|no| no.eq_ignore_ascii_case(text))
        || text.parse::<f64>().is_ok_and(|number| number == 0.0)
}

pub(crate) fn from_unix(seconds: i64, nanos: u32) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    time?.checked_add(Duration::from_nanos(nanos.into()))
}

/// Returns whole seconds since 1970, rounded down.
pub(crate) fn to_unix(time: SystemTime) -> i64 {
    let clamp = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => clamp(since.as_secs()),
        Err(before) => {
            let before = before.duration();
            -clamp(before.as_secs()) - i64::from(before.subsec_nanos() > 0)
        }
    }
}

/// Reads RFC 3339 and `YYYY-MM-DD HH:MM:SS`; without an offset it is UTC.
fn parse_time(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut date = date.split('-');
    let (year, month, day) = (digits(date.next()?, 4)?, digits(date.next()?, 2)?, digits(date.next()?, 2)?);
    if date.next().is_some() {
        return None;
    }
    let (clock, rest) = rest.strip_prefix(['T', 't', ' '])?.split_at_checked(8)?;
    let mut clock = clock.split(':');
    let (hour, minute, second) =
        (digits(clock.next()?, 2)?, digits(clock.next()?, 2)?, digits(clock.next()?, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    // Second 60: a leap second.
    if clock.next().is_some() || day < 1 || day > last || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    from_unix(seconds, nanos)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(text) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (fraction, zone) = text.split_at_checked(end)?;
    if fraction.is_empty() {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some((nanos, zone))
}

fn offset(zone: &str) -> Option<i64> {
    let (sign, zone) = match zone.split_at_checked(1) {
        None => return zone.is_empty().then_some(0),
        Some(("Z" | "z", "")) => return Some(0),
        Some(("+", zone)) => (1, zone),
        Some(("-", zone)) => (-1, zone),
        Some(_) => return None,
    };
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Counts the days from 1970-01-01 in the Gregorian calendar, with years that begin in March.
pub(crate) const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    // 719,468 days from 0000-03-01 to 1970-01-01.
    year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    fn check(written: &str, seconds: i64) {
        assert_eq!(text(written).time(), Ok(from_unix(seconds, 0)), "{written}");
    }

    #[test]
    fn times_are_read_from_numbers_and_from_text() {
        assert_eq!(Cell::Int(-1).time(), Ok(from_unix(-1, 0)));
        assert_eq!(Cell::Null.time(), Ok(None));
        check("1970-01-01 00:00:00", 0);
        check("1969-12-31T23:59:59Z", -1);
        check("2000-02-29 12:00:00", 951_825_600);
        check("2026-01-01T00:00:00Z", 1_767_225_600);
        check("2026-01-01T02:00:00+02:00", 1_767_225_600);
        check("2025-12-31t19:30:00-04:30", 1_767_225_600);
        check("2001-09-09 01:46:40", 1_000_000_000);
        check("2016-12-31T23:59:60Z", 1_483_228_800);
        check("0001-01-01 00:00:00", -62_135_596_800);
        check("9999-12-31 23:59:59", 253_402_300_799);
        assert_eq!(text("1970-01-01 00:00:00.25").time(), Ok(from_unix(0, 250_000_000)));
    }

    #[test]
    fn a_text_that_is_no_time_is_refused() {
        for written in [
            "",
            "tomorrow",
            "2026-01-01",
            "2026-02-29 00:00:00",
            "2026-13-01 00:00:00",
            "2026-00-01 00:00:00",
            "2026-01-00 00:00:00",
            "2026-01-01 24:00:00",
            "2026-01-01 00:60:00",
            "2026-01-01 00:00:00.",
            "2026-01-01 00:00:00 UTC",
            "2026-01-01 00:00:00+1:00",
            "2026-1-01 00:00:000",
            "+026-01-01 00:00:00",
            "2026-01-01\u{e9}00:00:00",
            "1767225600",
        ] {
            assert!(text(written).time().is_err(), "{written}");
        }
        assert!(Cell::Other("a blob").time().is_err() && Cell::Uuid([7; 16]).time().is_err());
    }

    #[test]
    fn seconds_are_rounded_down() {
        let half = Duration::from_millis(500);
        assert_eq!(to_unix(SystemTime::UNIX_EPOCH + half), 0);
        assert_eq!(to_unix(SystemTime::UNIX_EPOCH - half), -1);
        assert_eq!(to_unix(SystemTime::UNIX_EPOCH), 0);
    }

    #[test]
    fn flags_are_numbers_and_ids_keep_their_type() {
        assert_eq!(Cell::Int(0).flag(), Ok(false));
        assert_eq!(Cell::Int(2).flag(), Ok(true));
        assert_eq!(Cell::Null.flag(), Ok(false));
        assert_eq!(text("true").flag(), Err(Unreadable("a text")));
        assert_eq!(Cell::Int(7).id(), Ok(Id::from(7)));
        assert_eq!(text("7").id(), Ok(Id::from("7")));
        assert!(Cell::Null.id().is_err() && text("").id().is_err() && Cell::Other("a blob").id().is_err());
    }

    #[test]
    fn a_row_says_no_with_a_zero() {
        assert_eq!(Cell::Int(0).yes(), Ok(false));
        assert_eq!(Cell::Null.yes(), Ok(false));
        assert_eq!(Cell::Int(1).yes(), Ok(true));
        for no in ["0", "", " ", "f", "F", "false", "False", "n", "no", "NO", "off", " 0 ", "00", "0.0", "-0"]
        {
            assert_eq!(text(no).yes(), Ok(false), "{no:?}");
        }
        for yes in ["1", "t", "true", "y", "yes", "on", "read", "name", "note", "07", "0x"] {
            assert_eq!(text(yes).yes(), Ok(true), "{yes:?}");
        }
        assert_eq!(Cell::Other("a blob").yes(), Err(Unreadable("a blob")));
    }

    #[test]
    fn an_empty_hash_is_none_and_a_number_is_unreadable() {
        assert_eq!(text("").filled_text(), Ok(None));
        assert_eq!(text("x").filled_text(), Ok(Some("x".to_owned())));
        assert!(Cell::Int(1).filled_text().is_err() && Cell::Other("a blob").filled_text().is_err());
    }
}

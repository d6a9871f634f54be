//! What is asked of memcached, as bytes, and what it answers.

use std::ops::Range;

use auth_core::{Error, ErrorKind, Result, TierTime, WireName};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// memcached takes a smaller number for a time from now on.
const LARGEST_RELATIVE: u64 = 30 * 24 * 60 * 60;

/// When an item ends, in seconds of the server's clock since 1970: never a time from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(pub(super) u32);

impl Expiry {
    /// Takes the last whole second that is not after this.
    pub(super) fn at(time: TierTime) -> Self {
        let seconds = time.as_millis() / 1000;
        // What would be taken for a time from now on is long past.
        let seconds = seconds.max(LARGEST_RELATIVE + 1);
        // The server reads a number with a sign.
        let most = i32::MAX.unsigned_abs();
        Self(u32::try_from(seconds).map_or(most, |seconds| seconds.min(most)))
    }
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command<'a> {
    /// Its value, and how long it is left.
    Get(WireName),
    /// How long it is left.
    Left(WireName),
    /// Gives it another end.
    Touch(WireName, Expiry),
    /// Keeps a value.
    Set {
        name: WireName,
        bytes: &'a [u8],
        until: Expiry,
        /// Only if nothing is there.
        add: bool,
    },
    /// Removes it.
    Delete(WireName),
}

/// What the server said to one command.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// It is not there.
    Nothing,
    /// A value, and the seconds that it is left, if it ends.
    Value { bytes: Vec<u8>, left: Option<u64> },
    /// The seconds that it is left, if it ends.
    Left(Option<u64>),
    /// It did.
    Done,
    /// It did not, since there was something already, or nothing.
    NotDone,
    /// The value is larger than the server keeps.
    TooLarge,
    /// It could not.
    Failed(Error),
}

/// What kind of answer belongs to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A value, or silence.
    Value,
    /// The time that is left, or silence.
    Left,
    /// That it is done, or silence.
    Touched,
    /// That it is done, or not.
    Done,
}

impl Expected {
    pub(super) const fn may_be_silent(self) -> bool {
        !matches!(self, Self::Done)
    }
}

impl Command<'_> {
    pub(super) const fn expected(&self) -> Expected {
        match self {
            Self::Get(_) => Expected::Value,
            Self::Left(_) => Expected::Left,
            Self::Touch(..) => Expected::Touched,
            Self::Set { .. } | Self::Delete(_) => Expected::Done,
        }
    }

    /// Writes the command. `opaque` comes back with the answer.
    pub(super) fn write(&self, prefix: &str, opaque: u64, to: &mut Vec<u8>) {
        let mut say = |text: &str| to.extend_from_slice(text.as_bytes());
        match self {
            // `q`: nothing is said of what is not there.
            Self::Get(name) => say(&format!("mg {prefix}{} t v q O{opaque:x}\r\n", Key::of(*name).text())),
            Self::Left(name) => say(&format!("mg {prefix}{} t q O{opaque:x}\r\n", Key::of(*name).text())),
            Self::Touch(name, until) => {
                say(&format!("mg {prefix}{} T{} q O{opaque:x}\r\n", Key::of(*name).text(), until.0));
            }
            Self::Set { name, bytes, until, add } => {
                let (key, mode) = (Key::of(*name), if *add { " ME" } else { "" });
                say(&format!("ms {prefix}{} {} T{}{mode} O{opaque:x}\r\n", key.text(), bytes.len(), until.0));
                to.extend_from_slice(bytes);
                to.extend_from_slice(b"\r\n");
            }
            Self::Delete(name) => say(&format!("md {prefix}{} O{opaque:x}\r\n", Key::of(*name).text())),
        }
    }
}

/// A name as it stands in a key: 22 characters of base64url.
#[derive(Debug)]
pub(super) struct Key([u8; 22]);

impl Key {
    pub(super) fn of(name: WireName) -> Self {
        let mut text = [b'A'; 22];
        let written = URL_SAFE_NO_PAD.encode_slice(name.as_bytes(), &mut text);
        debug_assert!(matches!(written, Ok(22)));
        Self(text)
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The server said what does not belong there: nothing that comes after it can be trusted.
fn surprise(text: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, text)
}

/// One piece of what the server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// `VA`: where in the bytes the value is.
    Value { bytes: Range<usize>, left: Option<u64>, opaque: u64 },
    /// `HD`.
    Done { left: Option<u64>, opaque: u64 },
    /// `NS`, `EX` or `NF`.
    NotDone { opaque: u64 },
    /// `SERVER_ERROR`: where in the bytes its text is.
    Error(Range<usize>),
    /// `MN`: everything before it is answered.
    End,
    /// `STAT`: where in the bytes name and value are.
    Stat(Range<usize>),
    /// `END` of those.
    StatsEnd,
}

/// Reads the next piece and returns it with its length, or nothing while it is not complete.
pub(super) fn said(bytes: &[u8]) -> Result<Option<(Said, usize)>> {
    /// Longer than any line of an answer.
    const LONGEST_LINE: usize = 2048;
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
        let endless = bytes.len() >= LONGEST_LINE;
        return if endless { Err(surprise("memcached: a line without an end")) } else { Ok(None) };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Err(surprise("memcached: a line that is none")) };
    let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
    let text = (code.len() + 1).min(line.len())..line.len();
    let after = end + 1;
    Ok(Some(match code {
        "HD" => {
            let flags = Flags::read(rest)?;
            (Said::Done { left: flags.left, opaque: flags.opaque }, after)
        }
        "NS" | "EX" | "NF" => (Said::NotDone { opaque: Flags::read(rest)?.opaque }, after),
        "VA" => {
            let (length, flags) =
                rest.split_once(' ').ok_or_else(|| surprise("memcached: a value without flags"))?;
            let length = length.parse::<u32>().ok().and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or_else(|| surprise("memcached: a length that is none"))?;
            let flags = Flags::read(flags)?;
            let value = after..after + length;
            match bytes.get(value.end..value.end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {
                    let end = value.end + 2;
                    (Said::Value { bytes: value, left: flags.left, opaque: flags.opaque }, end)
                }
                Some(_) => return Err(surprise("memcached: a value that does not end")),
            }
        }
        "MN" if rest.is_empty() => (Said::End, after),
        "STAT" => (Said::Stat(text), after),
        "END" if rest.is_empty() => (Said::StatsEnd, after),
        "SERVER_ERROR" => (Said::Error(text), after),
        "CLIENT_ERROR" if rest == "unauthenticated" => {
            return Err(Error::new(ErrorKind::Misconfigured, "memcached wants a login"));
        }
        "ERROR" => {
            let text = "memcached knows no meta commands: it must be 1.6 or later";
            return Err(Error::new(ErrorKind::Misconfigured, text));
        }
        _ => return Err(surprise("memcached: an answer that is none")),
    }))
}

struct Flags {
    left: Option<u64>,
    opaque: u64,
}

impl Flags {
    fn read(text: &str) -> Result<Self> {
        let (mut left, mut opaque) = (None, None);
        for flag in text.split_ascii_whitespace() {
            match flag.split_at_checked(1) {
                // -1 is for ever.
                Some(("t", "-1")) => {}
                Some(("t", rest)) => {
                    left = Some(rest.parse().map_err(|_| surprise("memcached: a time that is none"))?);
                }
                Some(("O", rest)) => opaque = u64::from_str_radix(rest, 16).ok(),
                _ => {}
            }
        }
        let opaque = opaque.ok_or_else(|| surprise("memcached: an answer to nothing"))?;
        Ok(Self { left, opaque })
    }
}

/// Judges what the server calls its own failure.
pub(super) fn server_error(text: &str) -> Answer {
    if text.contains("too large") {
        return Answer::TooLarge;
    }
    let out_of_memory = text.contains("out of memory");
    let kind = if out_of_memory { ErrorKind::Overloaded } else { ErrorKind::Unavailable };
    let text = if out_of_memory { "memcached is out of memory" } else { "memcached has failed" };
    Answer::Failed(Error::new(kind, text))
}

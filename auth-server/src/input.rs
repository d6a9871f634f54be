//! Passwords and files from outside.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use auth_core::{Clock as _, Error, ErrorKind, Result};
use auth_stack::{Span, SystemClock};
use zeroize::Zeroizing;

use crate::command::Secret;

/// The largest password file that is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// More than any password may have, so that too long ones are refused for what they are.
const MAX_PASSWORD: u64 = 64 * 1024;

/// More than any token may have, so that too long ones are refused for what they are.
const MAX_TOKEN: u64 = 64 * 1024;

/// Reads a password from standard input: without echo from a terminal; else all of it but one final LF or CRLF.
pub(crate) fn password(new: bool) -> Result<Secret> {
    let failed =
        |error| Error::new(ErrorKind::Invalid, "can't read the password from standard input").because(error);
    if std::io::stdin().is_terminal() {
        let prompt = if new { "New password: " } else { "Password: " };
        return rpassword::prompt_password(prompt).map(|text| Secret::new(text.into_bytes())).map_err(failed);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    std::io::stdin().lock().take(MAX_PASSWORD + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_PASSWORD) {
        return Err(Error::new(ErrorKind::Invalid, "the password is longer than 64 KiB"));
    }
    Ok(Secret(without_end(bytes)))
}

/// A token as it was typed; `-` stands for standard input, whose final LF or CRLF is removed.
pub(crate) fn token(typed: &str) -> Result<Secret> {
    if typed != "-" {
        return Ok(Secret::new(typed.as_bytes().to_vec()));
    }
    let failed =
        |error| Error::new(ErrorKind::Invalid, "can't read the token from standard input").because(error);
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    std::io::stdin().lock().take(MAX_TOKEN + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Secret(without_end(bytes)))
}

/// Removes one final LF or CRLF.
fn without_end(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// Reads a file of passwords.
pub(crate) fn file(path: &Path) -> Result<Secret> {
    let wrong = |what: &'static str| Error::new(ErrorKind::Invalid, what).with("file", path.display());
    let file = std::fs::File::open(path).map_err(|error| wrong("can't open the file").because(error))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong("can't read the file").because(error))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(wrong("the file is larger than 16 MiB"));
    }
    Ok(Secret(bytes))
}

/// Reads a file, or standard input if it is `-`; of any length up to `most`, and a byte of what is longer.
pub(crate) fn given(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error| {
        Error::new(ErrorKind::Invalid, "can't read the file").with("file", path.display()).because(error)
    };
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).map_err(failed)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}

/// Reads a length of time as it is configured.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    Span::parse(text).map(|span| span.0).ok_or_else(|| {
        Error::new(
            ErrorKind::Invalid,
            "a length of time is a whole number and ms, s, m, h or d, as in 30s, a year at most",
        )
        .with("given", text)
    })
}

/// Reads a length of time that may be any: what others have configured has no bound of ours. FlaskSimpleAuth can give
/// tokens a grace of two hundred years.
pub(crate) fn window(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..) {
        Some("s") => Some(1),
        Some("m") => Some(60),
        Some("h") => Some(3600),
        Some("d") => Some(86_400),
        _ => None,
    };
    let long = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match (Span::parse(text), long) {
        (Some(span), _) => Ok(span.0),
        (None, Some(seconds)) => Ok(Duration::from_secs(seconds)),
        (None, None) => duration(text),
    }
}

/// The time that was given, or else now.
pub(crate) fn time(unix: Option<u64>) -> Result<SystemTime> {
    match unix {
        None => Ok(SystemClock::new().wall()),
        Some(unix) => SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(unix))
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "there is no such time")),
    }
}

//! Passwords and files from outside.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use auth_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use crate::command::Secret;

/// The largest password file that is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
/// More than any password may have, so that too long ones are refused for what they are.
const MAX_PASSWORD: u64 = 64 * 1024;

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
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(Secret(bytes))
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

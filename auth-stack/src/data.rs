//! The data folder: the embedded store, the keys and the admin socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auth_core::{Error, ErrorKind, Result};

/// Finds the data folder: what is configured, `GATEPOST_DATA`, or the platform's place.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if there is neither a setting nor a home.
pub(crate) fn folder(configured: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<PathBuf> {
    let given = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = configured {
        return Ok(folder.to_owned());
    }
    if user() == Some(0) {
        return Ok(PathBuf::from("/var/lib/gatepost"));
    }
    given("XDG_DATA_HOME")
        .filter(|folder| folder.is_absolute())
        .or_else(|| given("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("gatepost"))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Misconfigured,
                "no data folder: set GATEPOST_DATA, or `data` in the configuration",
            )
        })
}

/// Makes the folder, for its owner only, if it is not there, and checks that it is ours alone to write to.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if it can't be made or others may write to it.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| {
        Error::new(ErrorKind::Misconfigured, "can't make the data folder")
            .with("folder", folder.display())
            .with("cause", error)
    })?;
    check(folder)
}

/// Checks that nobody but its owner writes to a data folder, and that its owner is who runs this.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if it is not so.
pub fn check(folder: &Path) -> Result<()> {
    let wrong =
        |what: &'static str| Error::new(ErrorKind::Misconfigured, what).with("folder", folder.display());
    let found = std::fs::metadata(folder)
        .map_err(|error| wrong("can't read the data folder").with("cause", error))?;
    if !found.is_dir() {
        return Err(wrong("the data folder is no folder"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if found.mode() & 0o022 != 0 {
            return Err(wrong("others may write to the data folder; make its mode 0700"));
        }
        match user() {
            Some(user) if user == found.uid() => {}
            // Root may look after somebody else's server; what is written then belongs to root.
            Some(0) => tracing::warn!(folder = %folder.display(), "the data folder is not root's"),
            Some(_) => return Err(wrong("the data folder belongs to somebody else")),
            None => {}
        }
    }
    Ok(())
}

/// Tells the place of a file from any other, also on another machine where it has the same name: processes that share a
/// cache must not take one machine's people for another's. Says the folder, since the file itself may still be made, or
/// be replaced.
pub(crate) fn place_of(file: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (machine, host) = (read("/etc/machine-id"), read("/proc/sys/kernel/hostname"));
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    #[cfg(unix)]
    let number = {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&folder).map(|found| (found.dev(), found.ino())).unwrap_or_default()
    };
    #[cfg(not(unix))]
    let number = (0_u64, 0_u64);
    format!("{}\0{}\0{}\0{number:?}", machine.trim(), host.trim(), folder.display())
}

/// Why a file of the configuration is not read: whoever may write it decides who may log in.
pub(crate) const ANYBODY: &str = "anybody may write this file; take that right away (chmod o-w)";

/// Whether people beside the owner and the group may write to a file. The group may: where each user has a
/// group of their own, that is the usual mode, and a group of operators is a way to share the work.
pub(crate) fn anybody_may_write(file: &std::fs::File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|found| found.is_file() && found.mode() & 0o002 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

/// The user that this process acts as, where the system tells.
fn user() -> Option<u32> {
    // Not the owner of /proc/self: that is root's if the program's file can't be read by its user.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

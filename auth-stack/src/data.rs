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
    if let Some(folder) = given("GATEPOST_DATA").or_else(|| configured.map(Path::to_owned)) {
        return Ok(folder);
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/gatepost"));
    }
    given("XDG_DATA_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("gatepost"))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Misconfigured,
                "no data folder: set GATEPOST_DATA, or `data` in the configuration",
            )
        })
}

/// Makes the folder, for its owner only, if it is not there.
///
/// # Errors
/// [`Misconfigured`](ErrorKind::Misconfigured) if it can't be made or others may write to it.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    let wrong =
        |what: &'static str| Error::new(ErrorKind::Misconfigured, what).with("folder", folder.display());
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| wrong("can't make the data folder").because(error))?;
    let found =
        std::fs::metadata(folder).map_err(|error| wrong("can't read the data folder").because(error))?;
    if !found.is_dir() {
        return Err(wrong("the data folder is no folder"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if found.mode() & 0o022 != 0 {
            return Err(wrong("others may write to the data folder; make its mode 0700"));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of our own process's folder in /proc; elsewhere, no.
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

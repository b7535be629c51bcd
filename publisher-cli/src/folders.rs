//! Where an operator's files are, by the XDG base directory specification.

use std::path::PathBuf;

use anyhow::Context as _;
use directories::ProjectDirs;

/// The folder of the configuration, such as `~/.config/herald`.
pub(crate) fn config() -> Option<PathBuf> {
    project().map(|dirs| dirs.config_dir().to_owned())
}

/// The folder of the secret keys, such as `~/.local/share/herald/keys`. They are data: a folder
/// of configuration is what people copy and commit.
pub(crate) fn keys() -> anyhow::Result<PathBuf> {
    let dirs = project().context("cannot tell where keys are kept: set HOME, or name the file")?;
    Ok(dirs.data_dir().join("keys"))
}

/// The secret key with which an operator logs in, such as `~/.local/share/herald/login.key`. It is
/// not among the keys that sign releases.
pub(crate) fn login_key() -> anyhow::Result<PathBuf> {
    let dirs = project().context(
        "cannot tell where the login key is kept: set HOME, or name it with --login-key",
    )?;
    Ok(dirs.data_dir().join("login.key"))
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "herald")
}

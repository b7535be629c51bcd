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

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "herald")
}

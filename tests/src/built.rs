//! The programs that a tool starts: built by cargo in the tool's own profile, so that what is
//! measured is never missing, and never older than its source.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum NotBuilt {
    /// The tool does not know where it is itself.
    #[error("cannot find the folder of this program: {0}")]
    Nowhere(#[source] io::Error),
    /// The tool is not where cargo puts what it builds.
    #[error(
        "{} is no folder of cargo's: use `cargo run`, or name the program (--broker-bin)",
        folder.display()
    )]
    NotCargos {
        /// Where the tool is.
        folder: PathBuf,
    },
    /// Cargo does not start.
    #[error("cannot run {cargo:?}: {source}; or name the program (--broker-bin)")]
    Cargo {
        /// What was run.
        cargo: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Cargo failed, and has said why.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// Builds the program of a package that has the same name, and gives it.
///
/// Says nothing if it is there already and has only to be brought up to date.
///
/// # Errors
/// When it can't be built.
pub fn built(package: &str) -> Result<PathBuf, NotBuilt> {
    built_from(package, package)
}

/// Builds a program of a package, and gives it.
///
/// # Errors
/// When it can't be built.
pub fn built_from(package: &str, program: &str) -> Result<PathBuf, NotBuilt> {
    let arguments = ["-p", package, "--bin", program];
    let own = env::current_exe().map_err(NotBuilt::Nowhere)?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let program = folder.join(program);
    build(folder, &arguments, program.exists())?;
    Ok(program)
}

/// Builds all programs of the workspace.
///
/// # Errors
/// When they can't be built.
pub fn build_all() -> Result<(), NotBuilt> {
    let own = env::current_exe().map_err(NotBuilt::Nowhere)?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    build(folder, &["--workspace", "--bins"], folder.join("herald").exists())
}

fn build(folder: &Path, what: &[&str], is_there: bool) -> Result<(), NotBuilt> {
    let not_cargos = || NotBuilt::NotCargos { folder: folder.to_owned() };
    // <target>/release, and debug for the profile `dev`.
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name()) else {
        return Err(not_cargos());
    };
    if !folder.join(".fingerprint").is_dir() {
        return Err(not_cargos());
    }
    let profile = if profile == "debug" { "dev".as_ref() } else { profile };
    let cargo = PathBuf::from(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut command = Command::new(&cargo);
    command.arg("build").args(what).arg("--locked").arg("--profile").arg(profile);
    command.arg("--target-dir").arg(target).arg("--manifest-path").arg(manifest);
    if is_there {
        command.arg("--quiet");
    }
    // What a tool prints on stdout is for machines.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().map_err(|source| NotBuilt::Cargo { cargo, source })?;
    if status.success() {
        return Ok(());
    }
    Err(NotBuilt::Failed { command: format!("cargo build {}", what.join(" ")), status })
}

//! The digests of closures, from this machine's Nix database, and how manifests get into a cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    process::Stdio,
};

use herald_proto::{
    closure::{BadDump, MANIFEST_NAME, Manifest},
    store_path::StorePath,
    target::Closure,
    text::Prose,
};
use tokio::{process::Command, task::JoinSet};

const NIX_STORE: &str = "nix-store";
const NIX: &str = "nix";

/// How many paths one `nix-store` is asked about: far below what a command line holds.
const BATCH: usize = 4000;

/// How many closures are looked at side by side.
const AT_ONCE: usize = 4;

/// A closure whose digest can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoDigest {
    /// There is no Nix.
    #[error(
        "cannot run nix-store to compute the closure digest: install Nix here, or publish with \
         --integrity toplevel, which trusts the hosts' caches"
    )]
    NoNix(#[source] io::Error),
    /// The path is not valid here.
    #[error(
        "{path} is not in this machine's Nix store: build or copy it here, or publish with \
         --integrity toplevel, which trusts the hosts' caches\n{said}"
    )]
    NotHere { path: StorePath, said: Prose },
    /// Nix failed otherwise.
    #[error("nix-store --dump-db failed for the closure of {path}\n{said}")]
    Failed { path: StorePath, said: Prose },
    /// Nix says something that is no closure.
    #[error("the closure of {path}, as nix-store tells it, can't be used")]
    BadDump {
        path: StorePath,
        #[source]
        source: BadDump,
    },
}

/// A manifest that can't be put into the store or a cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    /// There is none.
    #[error(transparent)]
    NoDigest(#[from] NoDigest),
    /// It can't be written.
    #[error("cannot write the manifest of {path} into the folder for temporary files")]
    NotWritten {
        path: StorePath,
        #[source]
        source: io::Error,
    },
    /// Nix does not take it.
    #[error("nix-store --add-fixed refused the manifest of {path}\n{said}")]
    Refused { path: StorePath, said: Prose },
    /// There is no `nix`.
    #[error("cannot run nix to copy to {cache}: is it installed and in PATH?")]
    NoCopy {
        cache: String,
        #[source]
        source: io::Error,
    },
    /// Nix does not copy.
    #[error("nix copy --to {cache} failed, and nothing was signed: {status}")]
    NotCopied { cache: String, status: std::process::ExitStatus },
}

/// Computes the digest of each path's closure.
///
/// # Errors
/// The first that can't be had.
pub(crate) async fn digests(
    paths: BTreeSet<StorePath>,
) -> Result<BTreeMap<StorePath, Closure>, NoDigest> {
    let mut waiting = paths.into_iter();
    let mut running = JoinSet::new();
    let mut done = BTreeMap::new();
    for path in waiting.by_ref().take(AT_ONCE) {
        running.spawn(digest(path));
    }
    while let Some(ended) = running.join_next().await {
        let (path, closure) = ended.expect("a digest neither panics nor is aborted")?;
        done.insert(path, closure);
        if let Some(path) = waiting.next() {
            running.spawn(digest(path));
        }
    }
    Ok(done)
}

async fn digest(path: StorePath) -> Result<(StorePath, Closure), NoDigest> {
    manifest(&path).await.map(|manifest| (path, manifest.closure()))
}

/// Puts the manifest of a path's closure into this machine's store, and gives where it is there, with
/// what its digest covers.
///
/// # Errors
/// When there is none, or the store does not take it.
pub(crate) async fn store_manifest(path: &StorePath) -> Result<(StorePath, Closure), NotStored> {
    let manifest = manifest(path).await?;
    let not_written = |source| NotStored::NotWritten { path: path.clone(), source };
    let folder = tempfile::tempdir().map_err(not_written)?;
    // Nix names the store path after the file.
    let file = folder.path().join(MANIFEST_NAME);
    std::fs::write(&file, manifest.to_string()).map_err(not_written)?;
    let file = file.to_string_lossy();
    let arguments = ["sha256", &file];
    let added = nix_store("--add-fixed", &arguments).await.map_err(NoDigest::NoNix)?;
    let refused = |said| NotStored::Refused { path: path.clone(), said };
    let added = added.map_err(refused)?;
    let stored = added.trim().parse().map_err(|_| refused(Prose::lossy(&added)))?;
    Ok((stored, manifest.closure()))
}

/// Copies paths with all that they need to a cache. What Nix says meanwhile goes to the terminal.
///
/// # Errors
/// When Nix can't be run, or fails.
pub(crate) async fn copy(cache: &str, paths: &[StorePath]) -> Result<(), NotStored> {
    for some in paths.chunks(BATCH) {
        let mut command = Command::new(NIX);
        command.args(["--extra-experimental-features", "nix-command", "copy", "--to", cache]);
        command.args(some.iter().map(StorePath::as_str));
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let no_copy = |source| NotStored::NoCopy { cache: cache.to_owned(), source };
        let status = command.status().await.map_err(no_copy)?;
        if !status.success() {
            return Err(NotStored::NotCopied { cache: cache.to_owned(), status });
        }
    }
    Ok(())
}

async fn manifest(path: &StorePath) -> Result<Manifest, NoDigest> {
    let path = path.clone();
    let closure = match nix_store("-qR", &[path.as_str()]).await.map_err(NoDigest::NoNix)? {
        Ok(text) => text,
        Err(said) => return Err(NoDigest::NotHere { path, said }),
    };
    let mut dump = String::new();
    for batch in closure.lines().collect::<Vec<_>>().chunks(BATCH) {
        match nix_store("--dump-db", batch).await.map_err(NoDigest::NoNix)? {
            Ok(text) => dump += &text,
            Err(said) => return Err(NoDigest::Failed { path, said }),
        }
    }
    Manifest::from_dump_db(&dump).map_err(|source| NoDigest::BadDump { path, source })
}

/// Gives which of these paths this machine has; none where there is no Nix.
pub(crate) async fn here(mut paths: BTreeSet<StorePath>) -> BTreeSet<StorePath> {
    let asked: Vec<_> = paths.iter().cloned().collect();
    for some in asked.chunks(BATCH) {
        let mut arguments = vec!["--print-invalid"];
        arguments.extend(some.iter().map(StorePath::as_str));
        let Ok(Ok(missing)) = nix_store("--check-validity", &arguments).await else {
            return BTreeSet::new();
        };
        let missing: BTreeSet<&str> = missing.lines().collect();
        paths.retain(|path| !missing.contains(path.as_str()));
    }
    paths
}

/// Gives the store paths of a closure, if this machine has it.
pub(crate) async fn paths(path: &StorePath) -> Option<Vec<String>> {
    let listed = nix_store("-qR", &[path.as_str()]).await.ok()?.ok()?;
    Some(listed.lines().map(str::to_owned).collect())
}

/// Runs nix-store; gives what it printed, or what it said when it failed.
async fn nix_store(query: &str, paths: &[&str]) -> io::Result<Result<String, Prose>> {
    let mut command = Command::new(NIX_STORE);
    command.arg(query).args(paths).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    Ok(Err(Prose::lossy(&String::from_utf8_lossy(&output.stderr))))
}

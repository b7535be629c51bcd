//! The digests of closures, from this machine's Nix database.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use herald_proto::{
    closure::{BadDump, Manifest},
    store_path::StorePath,
    target::Closure,
    text::Prose,
};
use tokio::{process::Command, task::JoinSet};

const NIX_STORE: &str = "nix-store";

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
    NoNix(#[source] std::io::Error),
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
    match Manifest::from_dump_db(&dump) {
        Ok(manifest) => Ok((path, manifest.closure())),
        Err(source) => Err(NoDigest::BadDump { path, source }),
    }
}

/// Gives the store paths of a closure, if this machine has it.
pub(crate) async fn paths(path: &StorePath) -> Option<Vec<String>> {
    let listed = nix_store("-qR", &[path.as_str()]).await.ok()?.ok()?;
    Some(listed.lines().map(str::to_owned).collect())
}

/// Runs nix-store; gives what it printed, or what it said when it failed.
async fn nix_store(query: &str, paths: &[&str]) -> std::io::Result<Result<String, Prose>> {
    let mut command = Command::new(NIX_STORE);
    command.arg(query).args(paths).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    Ok(Err(Prose::lossy(&String::from_utf8_lossy(&output.stderr))))
}

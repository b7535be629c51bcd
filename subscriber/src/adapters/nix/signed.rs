//! The manifest that was signed, where a cache has it: how much there is to fetch, before anything is
//! fetched, and which paths are not what was signed.
//!
//! It is a help and no more. Where it can't be had, everything goes on without.

use std::time::Duration;

use herald_core::Failure;
use herald_proto::{
    closure::{MAX_MANIFEST, Manifest, manifest_path},
    rejection::Code,
    store_path::StorePath,
    target::{Closure, Target},
};
use tokio::time::timeout;

use super::{Nix, PATHS_AT_ONCE, caches::Caches, failed, other_extent, realise_failed};
use crate::{adapters::command, room::Size};

/// How long fetching a manifest may take, and which part of the order's own limit at most.
const LIMIT: Duration = Duration::from_secs(60);
const PART: u32 = 8;

impl Nix {
    /// Gets the manifest with the digest that was signed. None where no cache has it, or what they
    /// have is something else.
    pub(super) async fn signed_manifest(
        &self,
        target: &Target,
        signed: &Closure,
        caches: &Caches,
    ) -> Option<Manifest> {
        let path = manifest_path(target.toplevel.store_dir(), &signed.digest)?;
        let mut realise = self.realising(&path, caches);
        // One that was not there a minute ago may have been copied since.
        realise.args(["--option", "narinfo-cache-negative-ttl", "0"]);
        let most = Closure { size: MAX_MANIFEST + 4096, paths: 1, ..*signed };
        let fetching = self.watch_over(realise, &path, Some(&most), &|_| ());
        match timeout(LIMIT.min(target.limits.realise / PART), fetching).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                tracing::debug!(%path, why = %failure.cause.detail, "there is no manifest");
                return None;
            }
            Err(_) => {
                tracing::warn!(%path, "the manifest does not come in time; going on without it");
                return None;
            }
        }
        let file = path.as_path();
        let read = match self.os.size(file) {
            Ok(size) if size <= MAX_MANIFEST => self.os.read(file).ok(),
            _ => None,
        };
        let manifest = read.map(|bytes| Manifest::read(&bytes, &signed.digest));
        match manifest {
            Some(Ok(manifest)) => Some(manifest),
            Some(Err(problem)) => {
                tracing::warn!(%path, %problem, "the manifest can't be used; going on without it");
                None
            }
            None => {
                tracing::warn!(%path, "the manifest can't be read; going on without it");
                None
            }
        }
    }

    /// Judges by the manifest what is about to be fetched, before anything of it is.
    pub(super) async fn check_plan(
        &self,
        toplevel: &StorePath,
        signed: &Closure,
        manifest: &Manifest,
    ) -> Result<(), Failure> {
        let whole = manifest.closure();
        if whole != *signed {
            return Err(other_extent(toplevel, signed, &whole));
        }
        if !manifest.contains(toplevel) {
            let detail = format!(
                "{toplevel} is not in the closure that was signed for it; publish it again"
            );
            return Err(failed(Code::ClosureMismatch, &detail, false));
        }
        let paths: Vec<&str> = manifest.paths().map(StorePath::as_str).collect();
        let mut needed = 0u64;
        for some in paths.chunks(PATHS_AT_ONCE) {
            let mut ask = command::program("nix-store");
            ask.args(["--check-validity", "--print-invalid"]).args(some);
            let missing = command::output(&*self.os, &mut ask).await;
            for path in missing.map_err(|error| realise_failed(&error))?.lines() {
                let size = path.parse().ok().and_then(|path| manifest.size_of(&path));
                needed = needed.saturating_add(size.unwrap_or_default());
            }
        }
        tracing::debug!(%toplevel, bytes = needed, "what is missing is known from the manifest");
        let room = self.room.for_paths(&*self.os, &self.store_dir, Size::of_bytes(needed));
        room.map_err(|no_room| failed(Code::DiskFull, &no_room.to_string(), true))
    }
}

//! The host's own Nix: closures into the store, roots, digests.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use herald_core::{Cause, Failure};
use herald_proto::{
    closure::{Differing, Manifest},
    id::ClosureDigest,
    rejection::Code,
    report::Progress,
    store_path::StorePath,
    substituter::Substituter,
    target::{Closure, Integrity, Target},
};
use tokio::{
    process::Command,
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    command::{self, CommandFailed},
    fetched::{Fetched, Missing, News, TooMuch},
    poisoned::Disposed,
    unsynced::Unsynced,
};
mod caches;
mod signed;

use self::caches::Caches;
use crate::{
    os::{Os, System},
    ports::{Closures, Pending},
    room::{Room, Size},
};

/// How often progress is told at the most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How often the room on the disk is looked at while something is fetched.
const ROOM_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of one call; the system allows some 2 MiB of them.
pub(super) const PATHS_AT_ONCE: usize = 4000;
/// How long reading a closure, or fetching one path, may take: the order's own limit is shorter.
const MEND_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Gets closures with `nix-store`, and keeps them by links in a folder of roots.
pub struct Nix {
    os: System,
    store_dir: PathBuf,
    roots: PathBuf,
    unsynced: Unsynced,
    room: Room,
    /// The caches that a release may name.
    allowed: Vec<Substituter>,
}

impl Nix {
    /// Makes it for a store, a folder of roots, which must be there, the marks of what is not synced,
    /// and the room that is to stay.
    pub fn new(
        os: System,
        store_dir: &str,
        roots: PathBuf,
        unsynced: Unsynced,
        room: Room,
    ) -> Self {
        Self { os, store_dir: store_dir.into(), roots, unsynced, room, allowed: Vec::new() }
    }

    /// Lets releases name these caches, and what is in folders below them.
    #[must_use]
    pub fn allowing(mut self, allowed: Vec<Substituter>) -> Self {
        self.allowed = allowed;
        self
    }

    /// Gets a closure so that it is there whole, also after a power cut.
    async fn fetch(
        &self,
        toplevel: &StorePath,
        signed: Option<&Closure>,
        caches: &Caches,
        progress: &dyn Fn(Progress),
    ) -> Result<(), Failure> {
        let not_synced = |error: io::Error| {
            failed(Code::RealiseFailed, &format!("syncing the store: {error}"), true)
        };
        let suspicious = self.unsynced.from_earlier_boot(&*self.os).map_err(not_synced)?;
        self.unsynced.mark(&*self.os, toplevel).map_err(not_synced)?;
        self.substitute(toplevel, signed, caches, progress).await?;
        if suspicious {
            self.mend(toplevel, caches).await.map_err(|error| realise_failed(&error))?;
        }
        // Also where nothing was fetched: it may have been by a try that was cut off.
        let synced = self.os.sync_all(&self.store_dir).await;
        synced.map_err(not_synced)?;
        self.unsynced.clear(&*self.os, toplevel).map_err(not_synced)
    }

    /// Fetches what is missing. Nix says first how much that is: what is more than was signed, or
    /// than there is room for, is not fetched at all. What turns out to be more than Nix said ends
    /// where the room that is to stay begins.
    async fn substitute(
        &self,
        toplevel: &StorePath,
        signed: Option<&Closure>,
        caches: &Caches,
        progress: &dyn Fn(Progress),
    ) -> Result<(), Failure> {
        let mut realise = self.realising(toplevel, caches);
        realise.arg("--add-root").arg(self.root_of(toplevel));
        self.watch_over(realise, toplevel, signed, progress).await
    }

    fn realising(&self, path: &StorePath, caches: &Caches) -> Command {
        let mut realise = command::program("nix-store");
        realise.env("XDG_CACHE_HOME", self.unsynced.cache());
        realise.arg("--realise").arg(path.as_path());
        realise.args(["--log-format", "internal-json"]);
        caches.add_to(&mut realise);
        realise
    }

    /// Has Nix fetch something, as long as that is not more than it may be.
    async fn watch_over(
        &self,
        mut realise: Command,
        path: &StorePath,
        most: Option<&Closure>,
        progress: &dyn Fn(Progress),
    ) -> Result<(), Failure> {
        let mut fetched = Fetched::default();
        let mut told = Instant::now();
        let (announced, announcement) = watch::channel(None);
        let (exceeded, excess) = watch::channel(None);
        let mut line = |line: &[u8]| {
            match fetched.read(&String::from_utf8_lossy(line)) {
                Some(News::Missing(missing)) => drop(announced.send_replace(Some(missing))),
                Some(News::TooMuch(too_much)) => drop(exceeded.send_replace(Some(too_much))),
                None => {}
            }
            if fetched.done > 0 && told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                progress(Progress { done: fetched.done, total: fetched.total.max(fetched.done) });
            }
        };
        let ended = tokio::select! {
            biased;
            refused = self.refuse(path, most, announcement) => return Err(refused),
            refused = too_much(excess) => return Err(refused),
            ended = self.os.listen(&mut realise, &mut line) => ended,
        };
        // Nix may have noticed too by then.
        ended.map_err(|error| match &*exceeded.borrow() {
            Some(too_much) => failed(Code::ClosureMismatch, &too_much.to_string(), false),
            None => realise_failed(&error.in_words(fetched.last_words())),
        })
    }

    /// Judges what Nix is about to fetch, and then the room on the disk; ends only where the
    /// fetching is to end.
    async fn refuse(
        &self,
        toplevel: &StorePath,
        signed: Option<&Closure>,
        mut announcement: watch::Receiver<Option<Missing>>,
    ) -> Failure {
        let Ok(missing) = announcement.wait_for(Option::is_some).await.map(|missing| *missing)
        else {
            return std::future::pending().await;
        };
        let missing = missing.unwrap_or_default();
        if let Some(closure) = signed.filter(|closure| missing.exceeds(closure)) {
            let detail = format!(
                "{missing} are missing of {toplevel}, although the whole closure was signed to have \
                 {} paths and {} bytes; compare the caches",
                closure.paths, closure.size
            );
            return failed(Code::ClosureMismatch, &detail, false);
        }
        let mut needed = missing.unpacked;
        loop {
            if let Err(no_room) = self.room.for_paths(&*self.os, &self.store_dir, needed) {
                return failed(Code::DiskFull, &no_room.to_string(), true);
            }
            needed = Size::default();
            sleep(ROOM_INTERVAL).await;
        }
    }

    /// Reads every byte of a closure, and fetches again the paths that are not what Nix registered.
    async fn mend(&self, toplevel: &StorePath, caches: &Caches) -> Result<(), CommandFailed> {
        let verify = async |paths: &[&str]| {
            let mut verify = command::program("nix-store");
            self.os.run(verify.arg("--verify-path").args(paths), MEND_LIMIT).await
        };
        let listed = requisites(&*self.os, toplevel).await?;
        let paths: Vec<&str> = listed.lines().collect();
        for some in paths.chunks(PATHS_AT_ONCE) {
            if verify(some).await.is_ok() {
                continue;
            }
            for path in some {
                if let Err(error) = verify(&[path]).await {
                    tracing::warn!(path, %error, "a power cut damaged a store path; fetching it again");
                    let mut repair = command::program("nix-store");
                    repair.env("XDG_CACHE_HOME", self.unsynced.cache());
                    repair.arg("--repair-path").arg(path);
                    caches.add_to(&mut repair);
                    self.os.run(&mut repair, MEND_LIMIT).await?;
                }
            }
        }
        Ok(())
    }

    async fn found(&self, toplevel: &StorePath) -> Result<Manifest, Failure> {
        let manifest = manifest(&*self.os, toplevel).await;
        manifest.map_err(|problem| failed(Code::RealiseFailed, &problem, false))
    }

    /// Makes way for what was signed where something else is in the store: that nothing uses is
    /// deleted, and what Nix remembers of the caches is forgotten. Where it is known which paths
    /// differ, only these go. Gives why the order fails, with what was done.
    async fn make_way(
        &self,
        toplevel: &StorePath,
        was_rooted: bool,
        differing: Option<&Differing>,
        failure: Failure,
    ) -> Failure {
        if !was_rooted {
            let _ = self.os.remove(&self.root_of(toplevel));
        }
        let disposed = match requisites(&*self.os, toplevel).await {
            Ok(closure) => Disposed::of(&*self.os, &closure, differing).await,
            Err(error) => Err(error),
        };
        let remembered = self.unsynced.cache().join("nix");
        for name in self.os.list(&remembered).unwrap_or_default() {
            let _ = self.os.remove(&remembered.join(name));
        }
        let done = match disposed {
            Ok(disposed) => disposed.to_string(),
            Err(error) => format!("its paths could not be deleted, do that: {error}"),
        };
        let problem = match differing {
            Some(differing) => format!("{toplevel} is not what was signed: {differing}"),
            None => failure.cause.detail.to_string(),
        };
        failed(failure.cause.code, &format!("{problem}; {done}"), failure.retry)
    }

    fn root_of(&self, toplevel: &StorePath) -> PathBuf {
        self.roots.join(toplevel.base_name())
    }
}

impl Closures for Nix {
    fn realise<'a>(
        &'a self,
        target: &'a Target,
        recorded: Option<ClosureDigest>,
        progress: &'a dyn Fn(Progress),
    ) -> Pending<'a, Result<ClosureDigest, Failure>> {
        Box::pin(async move {
            let toplevel = &target.toplevel;
            let signed = match &target.integrity {
                Integrity::Closure(closure) => Some(closure),
                Integrity::Toplevel | Integrity::Recorded => None,
            };
            let caches = Caches::of(target, &self.allowed);
            let was_rooted = self.os.exists(&self.root_of(toplevel));
            // What is here already is not fetched.
            let mut manifest = None;
            if let Some(signed) = signed.filter(|_| !self.os.exists(toplevel.as_path())) {
                manifest = self.signed_manifest(target, signed, &caches).await;
                if let Some(manifest) = &manifest {
                    self.check_plan(toplevel, signed, manifest).await?;
                }
            }
            let fetched = self.fetch(toplevel, signed, &caches, progress).await;
            fetched.map_err(|failure| caches.explain(failure))?;
            let found = self.found(toplevel).await?;
            let closure = found.closure();
            match check(target, &closure, recorded) {
                Ok(()) => Ok(closure.digest),
                // What is there is what was signed: only its extent was signed wrongly.
                Err(failure) if signed.is_some_and(|signed| signed.digest == closure.digest) => {
                    Err(failure)
                }
                Err(failure) => {
                    if let Some(signed) = signed.filter(|_| manifest.is_none()) {
                        manifest = self.signed_manifest(target, signed, &caches).await;
                    }
                    let differing = manifest.map(|manifest| manifest.differing(&found));
                    Err(self.make_way(toplevel, was_rooted, differing.as_ref(), failure).await)
                }
            }
        })
    }

    fn measure<'a>(
        &'a self,
        toplevel: &'a StorePath,
    ) -> Pending<'a, Result<ClosureDigest, Failure>> {
        Box::pin(async move { self.found(toplevel).await.map(|found| found.closure().digest) })
    }

    fn root<'a>(&'a self, toplevel: &'a StorePath) -> Pending<'a, Result<(), Failure>> {
        Box::pin(async move {
            // What is rooted already is whole: the garbage collector keeps what a root names.
            if self.os.exists(&self.root_of(toplevel)) {
                return Ok(());
            }
            self.fetch(toplevel, None, &Caches::default(), &|_| ()).await.map_err(|failure| {
                let detail = format!("the running system is not whole: {}", failure.cause.detail);
                failed(Code::NoWayBack, &detail, false)
            })
        })
    }

    fn keep_only(&self, keep: &[StorePath]) {
        let Ok(names) = self.os.list(&self.roots) else { return };
        for name in names {
            if !keep.iter().any(|path| Path::new(path.base_name()) == Path::new(&name)) {
                let _ = self.os.remove(&self.roots.join(name));
            }
        }
    }
}

/// Lists a closure with what Nix's database says of each path.
async fn manifest(os: &dyn Os, toplevel: &StorePath) -> Result<Manifest, String> {
    let listed = requisites(os, toplevel).await.map_err(|error| error.to_string())?;
    let paths: Vec<&str> = listed.lines().collect();
    let mut dump = String::new();
    for some in paths.chunks(PATHS_AT_ONCE) {
        let mut ask = command::program("nix-store");
        ask.arg("--dump-db").args(some);
        let part = command::output(os, &mut ask).await.map_err(|error| error.to_string())?;
        if dump.is_empty() { dump = part } else { dump.push_str(&part) }
    }
    Manifest::from_dump_db(&dump).map_err(|error| error.to_string())
}

/// Lists the paths of a closure, one on a line.
async fn requisites(os: &dyn Os, toplevel: &StorePath) -> Result<String, CommandFailed> {
    let mut query = command::program("nix-store");
    query.arg("--query").arg("--requisites").arg(toplevel.as_path());
    command::output(os, &mut query).await
}

/// Compares what is in the store with what was signed.
fn check(target: &Target, found: &Closure, recorded: Option<ClosureDigest>) -> Result<(), Failure> {
    let signed = match &target.integrity {
        Integrity::Toplevel => return Ok(()),
        Integrity::Recorded => recorded,
        Integrity::Closure(closure) if closure == found => return Ok(()),
        Integrity::Closure(closure) if closure.digest == found.digest => {
            return Err(other_extent(&target.toplevel, closure, found));
        }
        Integrity::Closure(closure) => Some(closure.digest),
    };
    if signed == Some(found.digest) {
        return Ok(());
    }
    let signed = signed.map_or("nothing recorded".to_owned(), |digest| digest.to_string());
    let detail = format!(
        "the closure of {} is not what was signed: {} ({} paths, {} bytes) instead of {signed}; \
         compare the caches",
        target.toplevel, found.digest, found.paths, found.size
    );
    Err(failed(Code::ClosureMismatch, &detail, false))
}

/// Says that a digest was signed with another extent than its closure has.
fn other_extent(toplevel: &StorePath, signed: &Closure, found: &Closure) -> Failure {
    let detail = format!(
        "the closure of {toplevel} has {} paths and {} bytes, but {} and {} were signed with its \
         digest; publish it again",
        found.paths, found.size, signed.paths, signed.size
    );
    failed(Code::ClosureMismatch, &detail, false)
}

/// Ends where a cache sends more of a path than it has announced. How much it announces was judged
/// before.
async fn too_much(mut excess: watch::Receiver<Option<TooMuch>>) -> Failure {
    let failure = match excess.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(too_much)) => Some(failed(Code::ClosureMismatch, &too_much.to_string(), false)),
        _ => None,
    };
    match failure {
        Some(failure) => failure,
        None => std::future::pending().await,
    }
}

fn realise_failed(error: &CommandFailed) -> Failure {
    let detail = error.to_string();
    if detail.contains("No space left on device") {
        return failed(Code::DiskFull, &format!("{detail}; make room in the store"), true);
    }
    if detail.contains("don't know how to build") {
        // Nix's words for a path that no cache has.
        let detail = format!(
            "no cache that this host asks has all of it: `nix copy`, or `herald publish --copy-to`, \
             brings it there; {detail}"
        );
        return failed(Code::RealiseFailed, &detail, true);
    }
    failed(Code::RealiseFailed, &detail, true)
}

fn failed(code: Code, detail: &str, retry: bool) -> Failure {
    Failure { cause: Cause::new(code, detail), retry }
}

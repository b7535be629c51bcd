//! Whom the host trusts: what the trust file of the system that runs says.
//!
//! The file is part of a system, so that another system may bring another one. It is read at the
//! start, before a system that was activated is confirmed, and when an attempt has ended; what was
//! read last is in force. Keys that a system removed which was committed count for nothing from then
//! on, whatever the file of another system says of them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use herald_core::{Attempt, Cause};
use herald_proto::{
    order::Addressee,
    rejection::{Code, Rejection},
    signing::verify_order,
    trust::Trust,
};
use tokio::sync::watch;

use crate::{
    os::System,
    revocations::{Forgotten, Revocations},
};

/// Where a system's configuration is.
const ETC: &str = "/etc";

/// The trust file, and the trust in force, which all profiles share.
#[derive(Debug)]
pub struct TrustFile {
    os: System,
    path: PathBuf,
    revocations: Mutex<Revocations>,
    in_force: watch::Sender<Arc<Trust>>,
}

impl TrustFile {
    /// Names the file, from which this trust was read, and tells which keys were removed before.
    pub fn new(os: System, path: &Path, trust: Trust, revocations: Revocations) -> Self {
        let in_force = watch::Sender::new(Arc::new(revocations.applied_to(trust)));
        Self { os, path: path.to_owned(), revocations: Mutex::new(revocations), in_force }
    }

    /// Takes note that the system which brought the trust in force is committed: a key that was
    /// trusted before and is not any more is revoked for good. Where that can't be stored, it holds
    /// until the next start, and is stored the next time.
    pub fn settle(&self) {
        let in_force = self.in_force();
        let mut revocations = self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        for key in revocations.take(&in_force) {
            tracing::warn!(%key, "a committed system removed this key: it is revoked here");
        }
        if let Err(error) = revocations.save(&*self.os) {
            tracing::error!(%error, "which keys are revoked can't be stored; it is tried again");
        }
        let trust = revocations.applied_to(Trust::clone(&in_force));
        drop(revocations);
        self.put_in_force(trust);
    }

    /// Tells whether it is known which keys are revoked; until then no key counts.
    ///
    /// # Errors
    /// When it is not, with what to do about it.
    pub fn check(&self) -> Result<(), Forgotten> {
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner).check()
    }

    /// Gives the trust in force.
    pub fn in_force(&self) -> Arc<Trust> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Tells each time when other trust is in force.
    pub fn changes(&self) -> watch::Receiver<Arc<Trust>> {
        self.in_force.subscribe()
    }

    /// Reads the file again. One that can't be used changes nothing.
    pub fn read_again(&self) {
        match self.read(&self.path) {
            Ok(trust) if trust.fleet() == self.in_force().fleet() => self.put_in_force(trust),
            Ok(trust) => {
                tracing::error!(file = %self.path.display(), fleet = %trust.fleet(), "another fleet's trust is not put in force");
            }
            Err(problem) => tracing::error!(problem, "the trust in force stays as it was"),
        }
    }

    /// Tells whether the system that an attempt brings trusts those who signed its order: whoever
    /// changes the trust with it can still change it back. If that system runs, its trust is in
    /// force from then on.
    ///
    /// An order that came without signatures, from somebody at the host, is not judged; nor is one
    /// that only boots next, where its toplevel does not hold the trust file.
    ///
    /// # Errors
    /// Why not, for a report.
    pub fn accepts(&self, attempt: &Attempt, reader: &Addressee) -> Result<(), Cause> {
        let Some(evidence) = attempt.order.evidence() else { return Ok(()) };
        let Some(path) = self.path_in(attempt) else { return Ok(()) };
        let keys = "sign with keys of the old and the new system, or keep a key";
        let locked_out =
            |problem: &str, hint: &str| Cause::new(Code::LockedOut, &format!("{problem}; {hint}"));
        self.check().map_err(|problem| Cause::new(Code::LockedOut, &problem.to_string()))?;
        let trust = self.read(&path).map_err(|problem| locked_out(&problem, keys))?;
        let shown = path.display();
        if let Err(rejection) = verify_order(evidence.message(), &trust, reader) {
            return Err(match rejection {
                Rejection::UnderSigned { valid, threshold } => locked_out(
                    &format!(
                        "of the new system's {shown}, [release] asks for signatures by {threshold} \
                         of its keys, and this order has {valid}"
                    ),
                    keys,
                ),
                other @ Rejection::Host { .. } => locked_out(
                    &format!(
                        "the new system is another host's, and this order is not for that ({other})"
                    ),
                    "switch to another name at the machine, and enrol it by that",
                ),
                other => locked_out(
                    &format!("the new system's {shown} refuses this order: {other}"),
                    keys,
                ),
            });
        }
        if attempt.procedure.activates() {
            self.put_in_force(trust);
        }
        Ok(())
    }

    /// Gives where the trust file of an attempt's system is now.
    fn path_in(&self, attempt: &Attempt) -> Option<PathBuf> {
        if attempt.procedure.activates() {
            return Some(self.path.clone());
        }
        let etc = attempt.order.target().toplevel.as_path().join("etc");
        let below = self.path.strip_prefix(ETC).ok()?;
        self.os.exists(&etc).then(|| etc.join(below))
    }

    fn read(&self, path: &Path) -> Result<Trust, String> {
        let bytes = self
            .os
            .read(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let text =
            String::from_utf8(bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let trust =
            Trust::from_toml(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let revocations = self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(revocations.applied_to(trust))
    }

    fn put_in_force(&self, trust: Trust) {
        self.in_force.send_if_modified(|in_force| {
            let differs = **in_force != trust;
            if differs {
                let (file, digest) = (self.path.display(), trust.digest());
                tracing::info!(%file, %digest, "other trust is in force");
                *in_force = Arc::new(trust);
            }
            differs
        });
    }
}

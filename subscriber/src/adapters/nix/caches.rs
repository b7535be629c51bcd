//! The caches that a release names, as far as this host's configuration allows them.
//!
//! Nix asks them beside those of its own configuration, and by the same rules: what they send must be
//! signed by a key that the host's Nix trusts, unless its configuration asks for no signatures.

use herald_core::{Cause, Failure};
use herald_proto::{rejection::Code, substituter::Substituter, target::Target};
use tokio::process::Command;

/// Whom to ask beside the host's own caches.
#[derive(Debug, Default)]
pub(super) struct Caches {
    asked: Vec<Substituter>,
    refused: Vec<Substituter>,
}

impl Caches {
    /// Takes of what an order names what is allowed, or in a folder below.
    pub(super) fn of(target: &Target, allowed: &[Substituter]) -> Self {
        let is_allowed =
            |named: &Substituter| allowed.iter().any(|allowed| named.is_within(allowed));
        let (asked, refused) = target.substituters.iter().cloned().partition(is_allowed);
        Self { asked, refused }
    }

    /// Has a program of Nix ask them.
    pub(super) fn add_to(&self, command: &mut Command) {
        if !self.asked.is_empty() {
            command.args(["--option", "extra-substituters", &joined(&self.asked)]);
        }
    }

    /// Says of a failure to fetch that not all were asked.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        let Failure { cause, retry } = failure;
        if self.refused.is_empty() || cause.code != Code::RealiseFailed {
            return Failure { cause, retry };
        }
        let detail = format!(
            "{}; not asked: {}, which this host does not allow (allowed_substituters)",
            cause.detail,
            joined(&self.refused)
        );
        Failure { cause: Cause::new(cause.code, &detail), retry }
    }
}

/// No address has a blank.
fn joined(caches: &[Substituter]) -> String {
    caches.iter().map(Substituter::as_str).collect::<Vec<_>>().join(" ")
}

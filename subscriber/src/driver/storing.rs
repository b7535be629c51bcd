//! How a driver makes its state durable, and what it says while it can't.

use std::{io, time::Duration};

use herald_core::{ReportBody, Step};
use herald_proto::{rejection::Code, text::Prose};
use tokio::time::sleep;

use super::Driver;
use crate::{adapters::state_store, durable};

/// How long to wait before a state that could not be stored is stored again.
const STORE_RETRY: Duration = Duration::from_secs(5);

impl Driver {
    /// Makes the new state durable. Nothing follows from a state that is not: while it can't be
    /// stored the host says so, and waits, for as long as that takes.
    pub(super) async fn persist(&mut self, next: &mut Step) {
        if state_store::encode(&next.state) != state_store::encode(&self.state) {
            let (from, to) = (self.state.phase.name(), next.state.phase.name());
            if from != to {
                self.since = Some((self.ports.clock)().wall);
                tracing::info!(profile = %self.reader.profile, %from, %to, "phase");
            }
            // The number after the last one that is stored is for saying that nothing can be. The
            // run before may have said it, and could not store that it had.
            let mut reserved = false;
            if !self.has_stored {
                next.skip_a_report_number();
                reserved = true;
            }
            let mut said = false;
            while let Err(error) = self.ports.memory.save(&next.state) {
                tracing::error!(%error, "the state can't be stored; trying again");
                if !said {
                    if !reserved {
                        next.skip_a_report_number();
                    }
                    self.say_not_stored(&error).await;
                    said = true;
                }
                sleep(STORE_RETRY).await;
            }
            self.has_stored = true;
        }
        self.state = next.state.clone();
        self.ports.voice.keep_in_mind(&self.state);
    }

    /// Reports that the host is stuck where it was.
    async fn say_not_stored(&self, error: &io::Error) {
        let (code, what_to_do) = match durable::is_full(error) {
            true => (Code::DiskFull, "make room"),
            false => (Code::StateNotStored, "look at the disk"),
        };
        let detail = format!(
            "the state can't be stored, and nothing goes on until it can; {what_to_do}: {error}"
        );
        let body = ReportBody {
            number: self.state.reports + 1,
            phase: self.state.phase.name(),
            code: Some(code),
            detail: Some(Prose::lossy(&detail)),
            order: self.state.phase.order(),
            refusal: self.state.refusal.clone(),
            progress: None,
        };
        self.ports.voice.report(&self.state, body, &self.ports.machine.seen().await);
    }
}

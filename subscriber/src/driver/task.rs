//! Something that a driver has under way.

use tokio::task::JoinHandle;

/// Something that is under way; a new one ends the old.
#[derive(Default)]
pub(super) struct Task(Option<JoinHandle<()>>);

impl Task {
    pub(super) fn replace(&mut self, work: impl Future<Output = ()> + 'static) {
        self.stop();
        self.0 = Some(tokio::task::spawn_local(work));
    }

    pub(super) fn stop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
        }
    }

    /// Stops it, and waits until the programs that it ran are told to end.
    pub(super) async fn end(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
            let _ = handle.await;
        }
    }
}

//! The host's one activation permit, for which its profiles queue.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Gives the permit to one profile at a time.
#[derive(Debug, Clone)]
pub struct Permits(Arc<Semaphore>);

/// The permit, for as long as it is kept.
pub type Permit = OwnedSemaphorePermit;

impl Permits {
    /// Takes the permit, if nobody has it.
    pub fn take(&self) -> Option<Permit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// Takes the permit when those who asked before have given it back.
    pub async fn wait(&self) -> Permit {
        match Arc::clone(&self.0).acquire_owned().await {
            Ok(permit) => permit,
            // It is closed by nobody.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Default for Permits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_profile_has_the_permit_until_it_gives_it_back() {
        let permits = Permits::default();
        let first = permits.take().expect("nobody has it");
        assert!(permits.take().is_none());
        tokio::select! {
            biased;
            _ = permits.wait() => panic!("two profiles have it"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        let _second = permits.wait().await;
        assert!(permits.take().is_none());
    }
}

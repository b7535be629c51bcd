//! SIGINT and SIGTERM, as a fact that every wait looks at: so brokers and folders are removed.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts to listen for the signals.
pub(crate) fn watch() -> Result<(), Failure> {
    let start = || -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut stop, mut interrupt) = runtime.block_on(async {
            io::Result::Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
        })?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = stop.recv() => {}, _ = interrupt.recv() => {} }
            });
            INTERRUPTED.store(true, Ordering::Relaxed);
        })?;
        Ok(())
    };
    start().map_err(Failure::system("listen for signals"))
}

/// Fails once a signal has come.
pub(crate) fn check() -> Result<(), Failure> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
}

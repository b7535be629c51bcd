//! Subscribers that are broken on purpose, or machines that lie to them: what the checks must find.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Names are never made durable.
    FoldersAreNotSynced,
    /// The content of files is not made durable.
    FilesAreNotSynced,
    /// What Nix fetched is not made durable.
    StoreIsNotSynced,
    /// The dead-man does nothing.
    DeadManSleeps,
    /// Whatever is asked of it, the new system is called healthy and reachable.
    ProofsAreMadeUp,
    /// A claim of the armed record is a copy: both sides win.
    ClaimsAreCopies,
    /// A roll back says that it was done, and does nothing.
    RollBackOnlySaysSo,
    /// The state is not stored.
    StateIsForgotten,
    /// The new system is the boot default as soon as it runs.
    CommitsFirst,
    /// The boot loader boots a system again and again that was to be booted once.
    EntryIsNotForgotten,
    /// No unit watches over a system that was booted once.
    NobodyWatchesTheBoot,
    /// The subscriber's clock stands still: no limit is ever reached.
    TimeStandsStill,
    /// What an attempt left is not removed.
    NothingIsCleanedUp,
}

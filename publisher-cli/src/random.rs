//! Randomness from the operating system.

use anyhow::Context as _;

/// Fills bytes that nobody can guess.
pub(crate) fn fill(bytes: &mut [u8]) -> anyhow::Result<()> {
    let filled = getrandom::fill(bytes).map_err(|error| anyhow::anyhow!("{error}"));
    filled.context("cannot get random bytes from the operating system")
}

/// Gives bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

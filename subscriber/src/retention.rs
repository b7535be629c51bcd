//! Which old generations of a profile are deleted, and the process that deletes them.
//!
//! Only generations that Herald made, since it was told to delete any, are touched: they stand in
//! `generations` in the profile's state folder. Nothing is collected; that is for `nix.gc`.

use std::{
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use herald_proto::{store_path::StorePath, time::Timestamp};

use crate::{
    adapters::{
        command,
        record::{Outcome, Records},
        systems::store_path_at,
    },
    clock, commit, durable,
    os::{Os, System},
};

/// How long deleting generations may take.
const DELETE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The file with the generations that Herald made.
const LEDGER: &str = "generations";

/// What is kept of earlier systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How many systems that were confirmed are kept from the garbage collector, and can be gone
    /// back to.
    pub systems: Systems,
    /// Which generations of a profile are kept.
    pub generations: Generations,
}

impl Default for Retention {
    fn default() -> Self {
        Self { systems: Systems(4), generations: Generations::All }
    }
}

/// How many confirmed systems are kept: the one that runs, one to go back to, and at most 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "u8")]
pub struct Systems(u8);

impl Systems {
    /// Gives the number.
    pub fn count(self) -> usize {
        self.0.into()
    }
}

impl TryFrom<u8> for Systems {
    type Error = &'static str;

    fn try_from(count: u8) -> Result<Self, Self::Error> {
        if (2..=16).contains(&count) { Ok(Self(count)) } else { Err("systems is from 2 to 16") }
    }
}

/// Which generations that Herald made are kept, beside those in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generations {
    /// All of them.
    All,
    /// The newest ones.
    Last(NonZeroU32),
    /// Those that were made in the last days.
    Days(NonZeroU32),
}

/// What to delete after which commit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Job {
    /// The profile.
    pub(crate) profile: PathBuf,
    /// The system that was committed.
    pub(crate) target: StorePath,
    /// Whether the commit made a generation: it did not where the profile named the system before.
    pub(crate) made: bool,
    /// What is kept.
    pub(crate) generations: Generations,
    /// A system whose generations stay.
    pub(crate) previous: StorePath,
    /// Links to systems whose generations stay: what runs, was booted, boots next.
    pub(crate) links: Vec<PathBuf>,
}

/// Which attempt has made a generation, and what to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    of: commit::Which,
    /// What to do, as JSON.
    #[arg(long)]
    job: String,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Ledger {
    #[serde(default)]
    generation: Vec<Generation>,
}

/// A generation that Herald made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Generation {
    number: u64,
    system: StorePath,
    made: Timestamp,
}

/// Deletes what is not kept, and writes down how that went.
///
/// # Errors
/// When the job can't be read or the result can't be written.
pub async fn run(os: System, args: Args) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(&args.job)?;
    let records = Records::on(os, &args.of.folder);
    let pruned = prune(&**records.os(), &args.of.folder.join(LEDGER), &job, clock::wall()).await;
    let problems = pruned.err().into_iter().collect();
    records.write_pruned(args.of.attempt, &Outcome { problems })?;
    Ok(())
}

async fn prune(os: &dyn Os, file: &Path, job: &Job, now: Timestamp) -> Result<(), String> {
    let shown = |error: io::Error| format!("{}: {error}", file.display());
    let mut ledger: Ledger = match os.read(file) {
        Ok(bytes) => toml::from_str(&String::from_utf8_lossy(&bytes))
            .map_err(|error| format!("{}: {error}", file.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ledger::default(),
        Err(error) => return Err(shown(error)),
    };
    let current = current_generation(os, &job.profile);
    if let Some(number) = current.filter(|_| job.made)
        && system_of(os, &job.profile, number).as_ref() == Some(&job.target)
    {
        ledger.generation.retain(|one| one.number != number);
        ledger.generation.push(Generation { number, system: job.target.clone(), made: now });
    }
    // A number can come again, as another system's, once somebody has deleted the newest.
    ledger
        .generation
        .retain(|one| system_of(os, &job.profile, one.number).as_ref() == Some(&one.system));
    let mut spared: Vec<_> = job.links.iter().filter_map(|link| store_path_at(os, link)).collect();
    spared.extend([job.previous.clone(), job.target.clone()]);
    spared.extend(store_path_at(os, &job.profile));
    let surplus: Vec<_> = surplus(&ledger.generation, job.generations, now)
        .into_iter()
        .filter(|one| current != Some(one.number) && !spared.contains(&one.system))
        .map(|one| one.number)
        .collect();
    let write = |ledger: &Ledger| {
        let text = toml::to_string(ledger).map_err(io::Error::other)?;
        durable::write(os, file, text.as_bytes())
    };
    write(&ledger).map_err(shown)?;
    if surplus.is_empty() {
        return Ok(());
    }
    let mut delete = command::program("nix-env");
    delete.arg("--profile").arg(&job.profile).arg("--delete-generations");
    delete.args(surplus.iter().map(u64::to_string));
    os.run(&mut delete, DELETE_LIMIT).await.map_err(|error| error.to_string())?;
    ledger.generation.retain(|one| !surplus.contains(&one.number));
    write(&ledger).map_err(shown)
}

/// Gives the generations that a policy does not keep.
fn surplus(made: &[Generation], kept: Generations, now: Timestamp) -> Vec<&Generation> {
    let mut newest: Vec<_> = made.iter().collect();
    newest.sort_by_key(|one| std::cmp::Reverse(one.number));
    match kept {
        Generations::All => Vec::new(),
        Generations::Last(count) => {
            newest.into_iter().skip(usize::try_from(count.get()).unwrap_or(usize::MAX)).collect()
        }
        Generations::Days(days) => {
            let age = Duration::from_secs(u64::from(days.get()) * 24 * 60 * 60);
            newest.into_iter().filter(|one| now.since(one.made) > age).collect()
        }
    }
}

/// Gives the number of the generation that a profile names.
fn current_generation(os: &dyn Os, profile: &Path) -> Option<u64> {
    let link = os.read_link(profile).ok()?;
    let prefix = format!("{}-", profile.file_name()?.to_str()?);
    let name = link.file_name()?.to_str()?;
    name.strip_prefix(&prefix)?.strip_suffix("-link")?.parse().ok()
}

fn system_of(os: &dyn Os, profile: &Path, generation: u64) -> Option<StorePath> {
    let name = profile.file_name()?.to_str()?;
    store_path_at(os, &profile.with_file_name(format!("{name}-{generation}-link")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn numbers(kept: Generations) -> Vec<u64> {
        let made = |number: u64, days: u32| {
            let system = format!("/nix/store/{}-s{number}", "0".repeat(32));
            let made = Timestamp::default().plus(DAY * days);
            Generation { number, system: system.parse().unwrap(), made }
        };
        let all = [made(3, 10), made(7, 40), made(12, 41), made(9, 41)];
        let now = Timestamp::default().plus(DAY * 42);
        surplus(&all, kept, now).iter().map(|one| one.number).collect()
    }

    #[test]
    fn all_are_kept_or_the_newest_or_those_of_the_last_days() {
        let count = |count| NonZeroU32::new(count).unwrap();
        let none: [u64; 0] = [];
        assert_eq!(numbers(Generations::All), none);
        assert_eq!(numbers(Generations::Last(count(1))), [9, 7, 3]);
        assert_eq!(numbers(Generations::Last(count(3))), [3]);
        assert_eq!(numbers(Generations::Last(count(4))), none);
        assert_eq!(numbers(Generations::Days(count(2))), [3], "exactly two days are not more");
        assert_eq!(numbers(Generations::Days(count(1))), [7, 3]);
        assert_eq!(numbers(Generations::Days(count(u32::MAX))), none);
    }

    #[test]
    fn a_policy_is_read_and_one_that_keeps_nothing_is_refused() {
        let read =
            |text: &str| toml::from_str::<Retention>(text).map_err(|error| error.to_string());
        assert_eq!(read("").unwrap(), Retention::default());
        assert_eq!(read("generations = \"all\"").unwrap(), Retention::default());
        let some = read("systems = 2\ngenerations = { last = 10 }").unwrap();
        assert_eq!(some.systems.count(), 2);
        assert_eq!(some.generations, Generations::Last(NonZeroU32::new(10).unwrap()));
        for (text, said) in [
            ("systems = 1", "from 2 to 16"),
            ("systems = 17", "from 2 to 16"),
            ("generations = { last = 0 }", "nonzero"),
            ("generations = { weeks = 3 }", "weeks"),
            ("generations = \"none\"", "none"),
            ("keep = 3", "keep"),
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.contains(said), "{refusal}");
        }
    }
}

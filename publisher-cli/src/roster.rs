//! An operator's way to the roster: reading it back, and telling all what the fleet file says.

mod board;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use herald_client::{Message, Undelivered};
use herald_fleet::roster;
use herald_proto::{
    enrol::RosterEntry,
    host::HostId,
    key::KeyId,
    rejection::Rejection,
    roster_file,
    signing::{self, Gathering},
    topic::Subject,
};
use tokio::time::timeout;

use crate::{
    cli::Global,
    clock, output,
    release::{KeyOptions, Operator},
    signed_file,
};

pub(crate) use board::Board;

/// What every command takes that tells the fleet about a host.
#[derive(Debug, clap::Args)]
pub(crate) struct RosterOptions {
    #[command(flatten)]
    pub(crate) keys: KeyOptions,
    /// Where more than one key has to sign: the new file for the others [default: HOST.roster]
    #[arg(long, value_name = "FILE", help_heading = "Signing")]
    pub(crate) roster_out: Option<PathBuf>,
    /// How long connecting, and each delivery, may take
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    pub(crate) connect_timeout: Duration,
}

/// An operator who is connected.
pub(crate) struct Registrar {
    pub(crate) operator: Operator,
    pub(crate) board: Board,
    within: Duration,
}

/// What became of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The broker has them, durably.
    All,
    /// More keys have to sign them in a file.
    Unfinished {
        /// The file.
        path: PathBuf,
        /// How many more.
        missing: usize,
    },
}

impl Registrar {
    /// Connects, and reads what the broker has of these hosts.
    pub(crate) async fn open(
        operator: Operator,
        hosts: &[HostId],
        within: Duration,
    ) -> anyhow::Result<Self> {
        let trust = Some(operator.trust.clone());
        let board = Board::open(&operator.file, trust, hosts, within).await?;
        Ok(Self { operator, board, within })
    }

    /// Reads the fleet file and the keys, and connects.
    pub(crate) async fn load(
        global: &Global,
        options: &RosterOptions,
        host: &HostId,
    ) -> anyhow::Result<Self> {
        let operator = Operator::load(global, &options.keys.keys).await?;
        let hosts = std::slice::from_ref(host);
        let registrar = Self::open(operator, hosts, options.connect_timeout).await?;
        registrar.check_file(hosts, options.roster_out.as_deref())?;
        Ok(registrar)
    }

    /// Checks, before anything is changed, that a key signs which counts, and that what others have to
    /// sign can be written.
    ///
    /// # Errors
    /// When no key counts, or the file for the others is there already.
    pub(crate) fn check_file(&self, hosts: &[HostId], out: Option<&Path>) -> anyhow::Result<()> {
        let role = self.operator.trust.release();
        let own = self.operator.key_ids().iter().filter(|id| role.key(**id).is_some()).count();
        if own == 0 {
            bail!(
                "none of the keys that sign is in [release] of the trust file: say with --key which \
                 one is"
            );
        }
        let path = file_for(hosts, out);
        if own < role.threshold() && path.exists() {
            bail!(
                "{} exists, and signatures are never overwritten: have the others sign it, remove \
                 it if they have, or choose another --roster-out",
                path.display()
            );
        }
        Ok(())
    }

    /// Signs what the fleet file says of these hosts, and publishes it if that is enough.
    pub(crate) async fn tell(&self, hosts: &[HostId], out: Option<&Path>) -> anyhow::Result<Told> {
        let fleet = &self.operator.file.fleet;
        let mut entries = Vec::new();
        for host in hosts {
            let entry = roster::entry(fleet, host, clock::now(), self.board.of(host).entry);
            let mut gathering = Gathering::new(entry);
            for signer in self.operator.signers() {
                signer.sign(&mut gathering).await?;
            }
            entries.push(gathering);
        }
        let missing = missing(&self.operator, &entries)?;
        if missing == 0 {
            self.publish(&entries).await?;
            return Ok(Told::All);
        }
        let path = file_for(hosts, out);
        signed_file::create(&path, &roster_file::write(&entries))?;
        Ok(Told::Unfinished { path, missing })
    }

    /// Publishes entries that enough keys have signed.
    pub(crate) async fn publish(&self, entries: &[Gathering<RosterEntry>]) -> anyhow::Result<()> {
        let fleet = &self.operator.file.fleet;
        let sent = entries.iter().map(|entry| {
            let host = entry.message().host.clone();
            let topic = fleet.topic(Subject::Roster(host.clone()));
            (host, self.board.client().publish(Message::new(topic, entry.seal().0)))
        });
        for (host, delivery) in sent.collect::<Vec<_>>() {
            match timeout(self.within, delivery).await {
                Ok(Ok(())) => {}
                Ok(Err(why @ Undelivered::Refused { .. })) => {
                    let trust = "see its log, and that `trust` in its logins file has the keys";
                    return Err(why).with_context(|| {
                        format!("the broker refused the roster's entry of {host}: {trust}")
                    });
                }
                Ok(Err(why)) => {
                    return Err(why).with_context(|| format!("{host} is not on the roster"));
                }
                Err(_) => bail!(
                    "the broker did not acknowledge the roster's entry of {host} within {}: try \
                     `herald host announce {host}`",
                    clock::span(self.within)
                ),
            }
        }
        Ok(())
    }

    /// Takes away a request that was used, or that nobody waits for any more.
    pub(crate) async fn clear_request(&self, token: KeyId) {
        self.board.clear_request(token, self.within).await;
    }

    /// Disconnects.
    pub(crate) async fn close(self) {
        self.board.close().await;
    }
}

/// Gives the file for what others have to sign.
fn file_for(hosts: &[HostId], out: Option<&Path>) -> PathBuf {
    match (out, hosts) {
        (Some(path), _) => path.to_owned(),
        (None, [host]) => format!("{host}.roster").into(),
        (None, _) => "hosts.roster".into(),
    }
}

/// Tells how many more keys have to sign entries.
///
/// # Errors
/// When one of them would be refused whoever else signs.
pub(crate) fn missing(
    operator: &Operator,
    entries: &[Gathering<RosterEntry>],
) -> anyhow::Result<usize> {
    let mut missing = 0;
    for entry in entries {
        let host = &entry.message().host;
        match signing::verify_roster_entry(&entry.seal().0, &operator.trust) {
            Ok(_) => {}
            Err(Rejection::UnderSigned { valid, threshold }) => {
                missing = missing.max(threshold - valid);
            }
            Err(why) => {
                return Err(why).with_context(|| format!("the entry of {host} can't be used"));
            }
        }
    }
    Ok(missing)
}

/// Says what became of entries.
pub(crate) fn note(told: &Told, done: &str) {
    match told {
        Told::All => output::note(done),
        Told::Unfinished { path, missing } => output::note(&format!(
            "{missing} more must sign before others are told: `herald host cosign {}`",
            path.display()
        )),
    }
}

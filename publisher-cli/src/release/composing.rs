//! What a release is made of: the hosts, and what each of them is to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::ValueEnum;
use herald_proto::{
    host::HostId,
    store_path::StorePath,
    target::{Action, Closure, Integrity, Target},
    text::Prose,
};

use crate::{
    closure,
    connection::Connection,
    release::{self, Operator, Options, Plan, Survey},
    wanted::{self, Wanted},
};

/// The options from which `publish` and `sign` make a release.
#[derive(Debug, clap::Args)]
pub(crate) struct Composing {
    /// A host, and the system that it should run, as a store path or a link to one; repeatable
    #[arg(long, value_name = "NAME=STORE_PATH", help_heading = "Targets")]
    host: Vec<Wanted>,
    /// The same for many hosts: a JSON object {"name": "store path"}; - is stdin
    #[arg(long, value_name = "FILE", help_heading = "Targets")]
    from: Option<PathBuf>,
    /// What hosts do with it
    #[arg(long, value_enum, default_value = "switch", help_heading = "Targets")]
    action: Choice,
    /// Only for hosts that run this system now; repeatable, for any of several
    #[arg(long, value_name = "STORE_PATH", help_heading = "Targets")]
    expect_current: Vec<StorePath>,
    /// How hosts make sure that they got the right bytes
    #[arg(long, value_enum, default_value = "closure", help_heading = "Targets")]
    integrity: Checked,
    /// First copy the systems and their manifests to this binary cache, as `nix copy --to` does
    #[arg(long, value_name = "STORE", conflicts_with = "dry_run", help_heading = "Targets")]
    copy_to: Option<String>,
    /// The revision of the source, such as a git commit
    #[arg(long, value_name = "TEXT", help_heading = "Signing")]
    revision: Option<Prose>,
    /// Do without the broker: nothing is asked or published, and only --out is written
    #[arg(long, requires = "out", conflicts_with_all = ["recover", "dry_run"])]
    #[arg(help_heading = "What happens")]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Activate it, confirm it, and make it the boot default
    Switch,
    /// Make it the boot default, and activate nothing
    Boot,
    /// Boot into it, with the old system as the fall-back; confirm it, and make it the boot default
    Reboot,
    /// Activate and confirm it, and leave the boot default
    Test,
    /// Say what activating it would do
    DryActivate,
    /// Have it in the store
    Stage,
    /// Do nothing, but what was published before is cancelled, also for hosts that are offline
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Checked {
    /// By a digest of the whole closure, from this machine's Nix database
    Closure,
    /// By the name of the store path: the hosts' caches are trusted for the bytes
    Toplevel,
}

/// What was asked for, and, unless nothing is needed from the broker, a connection to it.
pub(crate) struct Composition {
    pub(crate) plan: Plan,
    pub(crate) online: Option<(Survey, Connection)>,
}

impl Composing {
    /// Puts the release together; asks Nix for the closures, and the broker for what hosts say;
    /// to `watch` is to hear what programs there print, too.
    pub(crate) async fn compose(
        &self,
        operator: &Operator,
        watch: bool,
    ) -> anyhow::Result<Composition> {
        let options = &self.options;
        let wanted = wanted::collect(&self.host, self.from.as_deref())?;
        operator.file.require(wanted.keys())?;
        if let Some(cache) = &self.copy_to {
            self.copy(cache, &wanted).await?;
        }
        if self.offline || (options.dry_run && !options.recover) {
            let closures = self.closures(&wanted).await?;
            let plan = self.plan(&wanted, &closures, None)?;
            return Ok(Composition { plan, online: None });
        }
        let (fleet, profile) = (&operator.file.fleet, &options.profile);
        let filters = wanted.keys().flat_map(|host| release::filters(fleet, profile, host, watch));
        let connecting =
            Connection::open(operator.file.access()?, filters.collect(), options.connect_timeout);
        // Nix is asked while the connection is made.
        let (closures, mut connection) = tokio::try_join!(self.closures(&wanted), connecting)?;
        let mut survey =
            Survey::new(operator, wanted.keys().map(|host| (host, profile)), &mut connection);
        if options.recover {
            survey.wait_for_reports(operator, &mut connection).await?;
        }
        let plan = self.plan(&wanted, &closures, Some(&survey))?;
        Ok(Composition { plan, online: Some((survey, connection)) })
    }

    /// Brings the systems to a cache, and what tells hosts what is in them.
    async fn copy(&self, cache: &str, wanted: &BTreeMap<HostId, StorePath>) -> anyhow::Result<()> {
        let systems: BTreeSet<_> = wanted.values().cloned().collect();
        let mut paths = Vec::new();
        for system in systems {
            if self.signs_closures() {
                paths.push(closure::store_manifest(&system).await?.0);
            }
            paths.push(system);
        }
        Ok(closure::copy(cache, &paths).await?)
    }

    /// Tells whether closures are signed: whoever only takes the sequence gets no bytes.
    fn signs_closures(&self) -> bool {
        self.integrity == Checked::Closure && self.action != Choice::None
    }

    async fn closures(
        &self,
        wanted: &BTreeMap<HostId, StorePath>,
    ) -> anyhow::Result<BTreeMap<StorePath, Closure>> {
        if !self.signs_closures() {
            return Ok(BTreeMap::new());
        }
        let paths: BTreeSet<_> = wanted.values().cloned().collect();
        Ok(closure::digests(paths).await?)
    }

    fn plan(
        &self,
        wanted: &BTreeMap<HostId, StorePath>,
        closures: &BTreeMap<StorePath, Closure>,
        survey: Option<&Survey>,
    ) -> anyhow::Result<Plan> {
        let options = &self.options;
        let target = |(host, path): (&HostId, &StorePath)| -> anyhow::Result<Target> {
            let closure = closures.get(path).copied();
            let integrity = closure.map_or(Integrity::Toplevel, Integrity::Closure);
            let (action, expected) = (self.action.into(), self.expect_current.clone());
            let mut target =
                options.target(host.clone(), path.clone(), action, integrity, expected);
            if options.recover {
                let survey = survey.context("recovering needs the hosts' reports")?;
                target.incarnation = Some(survey.incarnation(host, &options.profile)?);
            }
            Ok(target)
        };
        let targets = wanted.iter().map(target).collect::<Result<_, _>>()?;
        Ok(Plan { targets, reason: options.reason.clone(), revision: self.revision.clone() })
    }
}

impl From<Choice> for Action {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Switch => Self::Switch,
            Choice::Boot => Self::Boot,
            Choice::Reboot => Self::Reboot,
            Choice::Test => Self::Test,
            Choice::DryActivate => Self::DryActivate,
            Choice::Stage => Self::Stage,
            Choice::None => Self::None,
        }
    }
}

//! What is in a release file, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};

use herald_fleet::{
    generations::names,
    json::{Part, Signed},
    packages::{self, Change},
};
use herald_proto::{
    host::{HostId, ProfileName},
    release_file::ReleaseFile,
    store_path::StorePath,
    target::Target,
};
use serde::Serialize;

use super::Args;
use crate::{
    clock, closure,
    describe::{self, Line},
    output,
    release::Survey,
    release_file::Standing,
};

/// How many pairs of closures are compared at the most: each takes Nix some time. The closures of the
/// others count as not known.
const COMPARED: usize = 100;
/// How many changes of packages are shown to people.
const CHANGES: usize = 40;

/// From which system to which.
type Step = (StorePath, StorePath);

/// What each profile of a host runs, as the host reports.
type Running<'a> = BTreeMap<(&'a HostId, &'a ProfileName), &'a StorePath>;

#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    #[serde(flatten)]
    release: Signed<'a>,
    #[serde(flatten)]
    standing: &'a Standing,
    /// The keys that signed just now.
    signed: Option<&'a str>,
    targets: Vec<ShownTarget<'a>>,
}

#[derive(Serialize)]
struct ShownTarget<'a> {
    #[serde(flatten)]
    part: Part<'a>,
    /// What the host runs, as it reports.
    running: Option<&'a StorePath>,
    /// What changes from that; null where it is not known.
    changes: Option<&'a [Change]>,
}

/// Prints it on stdout.
pub(super) async fn print(
    args: &Args,
    file: &ReleaseFile,
    standing: &Standing,
    survey: Option<&Survey>,
    signed: Option<&str>,
) -> anyhow::Result<()> {
    let running = running(survey);
    let changes = compare(file.targets(), &running).await;
    if !args.json {
        return output::line(text(file, standing, &running, &changes).trim_end());
    }
    let targets = file.targets().iter().map(|target| {
        let running = running.get(&(&target.host, &target.profile)).copied();
        let step = running.map(|running| (running.clone(), target.toplevel.clone()));
        let changes = step.and_then(|step| changes.get(&step)).map(Vec::as_slice);
        ShownTarget { part: Part::of(target), running, changes }
    });
    output::json(&Shown {
        file: args.files[0].display().to_string(),
        release: Signed::of(file.release()),
        standing,
        signed,
        targets: targets.collect(),
    })
}

/// Gives what hosts run, as far as they have said.
fn running(survey: Option<&Survey>) -> Running<'_> {
    let reports = survey.into_iter().flat_map(Survey::reports);
    let running = reports.filter_map(|report| {
        Some(((&report.host, &report.profile), report.systems.running.as_ref()?))
    });
    running.collect()
}

/// Compares closures, as far as this machine has them.
async fn compare(targets: &[Target], running: &Running<'_>) -> BTreeMap<Step, Vec<Change>> {
    let steps = targets.iter().filter_map(|target| {
        let from = *running.get(&(&target.host, &target.profile))?;
        (*from != target.toplevel).then(|| (from.clone(), target.toplevel.clone()))
    });
    let steps: BTreeSet<Step> = steps.collect();
    let ends = steps.iter().flat_map(|(from, to)| [from.clone(), to.clone()]);
    let here = closure::here(ends.collect()).await;
    let known = steps.into_iter().filter(|(from, to)| here.contains(from) && here.contains(to));
    let mut closures = BTreeMap::<StorePath, Option<Vec<String>>>::new();
    let mut compared = BTreeMap::new();
    for (from, to) in known.take(COMPARED) {
        for path in [&from, &to] {
            if !closures.contains_key(path) {
                closures.insert(path.clone(), closure::paths(path).await);
            }
        }
        if let (Some(Some(old)), Some(Some(new))) = (closures.get(&from), closures.get(&to)) {
            let old = old.iter().map(String::as_str);
            let changes = packages::changes(old, new.iter().map(String::as_str));
            compared.insert((from, to), changes);
        }
    }
    compared
}

fn text(
    file: &ReleaseFile,
    standing: &Standing,
    running: &Running<'_>,
    changes: &BTreeMap<Step, Vec<Change>>,
) -> String {
    let mut lines = describe::release(file.release(), clock::now());
    lines.push(("signed by", standing.line()));
    let mut text = describe::write(&lines, "");
    for (terms, targets) in groups(file.targets()) {
        let hosts: Vec<_> = targets.iter().map(|target| target.host.as_str()).collect();
        text += &format!("\n{}\n", hosts.join(", "));
        text += &describe::write(&terms, "  ");
        for (from, hosts) in by_running(&targets, running) {
            text += &step(from, &targets[0].toplevel, &hosts, hosts.len() < targets.len(), changes);
        }
    }
    text
}

/// Puts targets together that ask for the same, in the order in which they come.
fn groups(targets: &[Target]) -> Vec<(Vec<Line>, Vec<&Target>)> {
    let mut places = BTreeMap::<Vec<Line>, usize>::new();
    let mut groups = Vec::<(Vec<Line>, Vec<&Target>)>::new();
    for target in targets {
        let mut terms = vec![("type", target.system.to_string())];
        terms.extend(describe::target(target));
        let place = *places.entry(terms.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, members)) => members.push(target),
            None => groups.push((terms, vec![target])),
        }
    }
    groups
}

fn by_running<'a>(
    targets: &[&Target],
    running: &Running<'a>,
) -> BTreeMap<Option<&'a StorePath>, Vec<HostId>> {
    let mut by_running = BTreeMap::<_, Vec<_>>::new();
    for target in targets {
        let from = running.get(&(&target.host, &target.profile)).copied();
        by_running.entry(from).or_default().push(target.host.clone());
    }
    by_running
}

/// Says what changes for hosts that run the same system.
fn step(
    from: Option<&StorePath>,
    to: &StorePath,
    hosts: &[HostId],
    some: bool,
    changes: &BTreeMap<Step, Vec<Change>>,
) -> String {
    let of = if some { format!(" ({})", names(hosts)) } else { String::new() };
    let Some(from) = from else {
        return format!("  {:12}not known{of}\n", "runs now");
    };
    if from == to {
        return format!("  {:12}the same{of}\n", "runs now");
    }
    let mut text = format!("  {:12}{from}{of}\n", "runs now");
    match changes.get(&(from.clone(), to.clone())).map(Vec::as_slice) {
        None => {
            text += &format!("  {:12}not known: both closures are not in this store\n", "packages")
        }
        Some([]) => text += &format!("  {:12}none has another version\n", "packages"),
        Some(changes) => {
            for change in changes.iter().take(CHANGES) {
                text += &format!("  {:12}{change}\n", "package");
            }
            let more = changes.len().saturating_sub(CHANGES);
            if more > 0 {
                text += &format!("  {:12}{more} more: --json has them all\n", "package");
            }
        }
    }
    text
}

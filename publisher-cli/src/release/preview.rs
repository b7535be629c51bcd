//! `--dry-run`: what would be signed.

use std::process::ExitCode;

use herald_fleet::{
    draft::Draft,
    json::{Part, Signed},
};
use herald_proto::target::Integrity;
use serde::Serialize;

use crate::{output, release::Operator};

#[derive(Serialize)]
struct Preview<'a> {
    dry_run: bool,
    #[serde(flatten)]
    release: Signed<'a>,
    keys: Vec<String>,
    targets: Vec<Part<'a>>,
}

/// Checks the draft as if it were signed, and prints it.
pub(crate) fn print(operator: &Operator, draft: &Draft, json: bool) -> anyhow::Result<ExitCode> {
    let keys: Vec<_> = operator.keys().map(|key| key.name().to_string()).collect();
    draft.check(keys.len())?;
    let release = draft.unsigned();
    if json {
        output::json(&Preview {
            dry_run: true,
            release: Signed::of(&release),
            keys,
            targets: draft.targets.iter().map(Part::of).collect(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = draft.targets.iter().map(|target| {
        let integrity = match target.integrity {
            Integrity::Closure(closure) => {
                format!("{} paths, {} bytes", closure.paths, closure.size)
            }
            Integrity::Toplevel => "toplevel".to_owned(),
            Integrity::Recorded => "recorded".to_owned(),
        };
        let (host, profile) = (target.host.to_string(), target.profile.to_string());
        [host, profile, target.action.to_string(), integrity, target.toplevel.to_string()]
    });
    output::table(["HOST", "PROFILE", "ACTION", "INTEGRITY", "SYSTEM"], rows)?;
    output::note(&format!(
        "dry run: {} would sign this for the fleet {}, from {} to {}; nothing was signed or sent",
        keys.join(" and "),
        release.fleet,
        release.not_before,
        release.expires_at
    ));
    Ok(ExitCode::SUCCESS)
}

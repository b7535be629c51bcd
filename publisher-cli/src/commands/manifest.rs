//! `herald manifest`.

use std::process::ExitCode;

use herald_proto::{id::ClosureDigest, store_path::StorePath};
use serde::Serialize;

use crate::{closure, output, wanted};

/// Put the manifests of systems into this machine's store, and print where they are.
///
/// A manifest lists what is in a closure, with the hash of each path. With it in their cache, hosts
/// know how much they will fetch before they fetch anything, and name the paths that are not what was
/// signed. Copy it along: `nix copy --to CACHE ./result $(herald manifest ./result)`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A system, as a store path or a link to one
    #[arg(required = true, value_name = "STORE_PATH", value_parser = wanted::store_path)]
    systems: Vec<StorePath>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    manifests: Vec<Stored>,
}

#[derive(Serialize)]
struct Stored {
    toplevel: StorePath,
    manifest: StorePath,
    closure_digest: ClosureDigest,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut manifests = Vec::new();
    for toplevel in args.systems {
        let (manifest, closure) = closure::store_manifest(&toplevel).await?;
        if !args.json {
            output::line(manifest.as_str())?;
        }
        manifests.push(Stored { toplevel, manifest, closure_digest: closure.digest });
    }
    if args.json {
        output::json(&Shown { manifests })?;
    }
    Ok(ExitCode::SUCCESS)
}

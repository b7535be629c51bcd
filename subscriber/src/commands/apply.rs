//! `herald-subscriber apply`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use herald_proto::{codec, id::TargetHash, order::SealedOrder};

use super::{
    About, Exit,
    follow::{Wanted, follow},
    line, words,
};
use crate::control::{Ask, ORDER_LIMIT};

/// Which order, and whether to wait for its end.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The order, as `herald publish --out` writes it; - reads it from the standard input.
    #[arg(value_name = "FILE")]
    order: PathBuf,
    /// End as soon as the daemon has taken it.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    about: About,
}

/// A file that can't be an order.
#[derive(Debug, thiserror::Error)]
enum NoOrder {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is empty", path.display())]
    Empty { path: PathBuf },
    #[error("{} has more than {ORDER_LIMIT} bytes, so it is no order", path.display())]
    TooLarge { path: PathBuf },
}

/// Has the daemon follow an order that is as signed as those that a broker brings.
///
/// # Errors
/// When there is no order, the daemon can't be asked, or it refuses the order.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let order = read(&args.order)?;
    let daemon = args.about.daemon()?;
    let status = daemon.ask(Ask::Apply, &order).await?;
    if args.no_wait {
        line(&words::phase(&status))?;
        return Ok(Exit::Done);
    }
    // The daemon has verified it; here it only has a name.
    let target =
        codec::decode(&order).ok().map(|order: SealedOrder| TargetHash::of(&order.target.0));
    follow(&daemon, status, target, Wanted::Success).await
}

fn read(path: &Path) -> Result<Vec<u8>, NoOrder> {
    let mut order = Vec::new();
    let limit = ORDER_LIMIT as u64 + 1;
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut order)
    } else {
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut order))
    };
    let path = path.to_owned();
    match read {
        Err(source) => Err(NoOrder::Unreadable { path, source }),
        Ok(0) => Err(NoOrder::Empty { path }),
        Ok(size) if size > ORDER_LIMIT => Err(NoOrder::TooLarge { path }),
        Ok(_) => Ok(order),
    }
}

//! A command's end of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use herald_proto::host::ProfileName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use super::{Answer, Ask, Denied, Head};
use crate::request::{Refused, Status};

/// How long the daemon may take to answer: somewhat longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(45);
/// For how long, and how often, a daemon is asked again that is asked by too many.
const BUSY: Duration = Duration::from_secs(2);
const BUSY_INTERVAL: Duration = Duration::from_millis(100);
/// The most bytes of an answer.
const ANSWER_MOST: u64 = 64 * 1024;

/// A request was not met.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    /// The daemon does not run, or listens elsewhere.
    #[error(
        "herald-subscriber does not run, or does not listen at {}: start it (`systemctl start \
         herald-subscriber`), or name its configuration with --config",
        path.display()
    )]
    NotThere {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This user can't even get to the socket.
    #[error("{} is not for this user: run it as root (sudo)", path.display())]
    NotReachable {
        /// The socket's path.
        path: PathBuf,
    },
    /// The daemon went away, or what it said is no answer.
    #[error("herald-subscriber did not answer at {}: {problem}", path.display())]
    NoAnswer {
        /// The socket's path.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// It is not done, for a reason of the profile's own.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The daemon did not look at it.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Unmet {
    /// Tells whether the daemon may only be starting again, as when it is replaced.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NotThere { .. }
                | Self::NoAnswer { .. }
                | Self::Denied(Denied::Busy | Denied::NoAnswer)
        )
    }
}

/// Asks the daemon that listens at a path.
///
/// # Errors
/// When what is wanted is not done, or nobody says whether it is.
pub async fn ask(
    path: &Path,
    profile: &ProfileName,
    ask: Ask,
    order: &[u8],
) -> Result<Status, Unmet> {
    let request = Head::new(profile.clone(), ask).encode(order);
    let began = Instant::now();
    loop {
        match ask_once(path, &request).await {
            Err(Unmet::Denied(Denied::Busy)) if began.elapsed() < BUSY => {
                sleep(BUSY_INTERVAL).await;
            }
            answer => return answer,
        }
    }
}

async fn ask_once(path: &Path, request: &[u8]) -> Result<Status, Unmet> {
    let mut stream = UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Unmet::NotReachable { path }
        } else {
            Unmet::NotThere { path, source }
        }
    })?;
    let mut answer = Vec::new();
    let asked = timeout(PATIENCE, async {
        // A daemon that has heard enough closes its half early, and answers all the same.
        let _ = stream.write_all(request).await;
        let _ = stream.shutdown().await;
        stream.take(ANSWER_MOST).read_to_end(&mut answer).await
    });
    let problem = match asked.await {
        Err(_) => Some(format!("nothing came within {PATIENCE:?}")),
        // One that has not heard all of it hangs up with an error after its answer.
        Ok(_) if !answer.is_empty() => None,
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(_)) => Some("it hung up".to_owned()),
    };
    let no_answer = |problem| Unmet::NoAnswer { path: path.to_owned(), problem };
    if let Some(problem) = problem {
        return Err(no_answer(problem));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done(status)) => Ok(*status),
        Ok(Answer::Refused(refused)) => Err(refused.into()),
        Ok(Answer::Denied(denied)) => Err(denied.into()),
        Err(error) => Err(no_answer(error.to_string())),
    }
}

//! The daemon's end of the control socket: who may ask what, and within which bounds.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use herald_proto::host::ProfileName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{Answer, Ask, Denied, HEAD_LIMIT, Head, ORDER_LIMIT, line};
use crate::{adapters::people, config::Runner, request::Asked};

/// How long a request may take to come, and an answer to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a profile may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How many of the owners ask at once, and how many others: these can't keep the owners out.
const OWNERS: usize = 8;
const OTHERS: usize = 4;
/// How long the place of one of the others stays taken after their answer. Each look at the
/// machine takes time that orders wait for, and anybody can ask.
const BREATH: Duration = Duration::from_millis(200);
/// How long to wait where no connection can be taken, as when all files are in use.
const NO_CONNECTION: Duration = Duration::from_millis(500);

/// The control socket can't be made.
#[derive(Debug, thiserror::Error)]
pub enum NoSocket {
    /// Somebody else listens there.
    #[error("another program listens at {}: set control to another path", path.display())]
    Taken {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{} is there and is no socket: remove it, or set control to another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot listen at {}: {source}", path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What somebody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Root, and the daemon's own user: everything.
    Own,
    /// Whoever is logged in: to look, and to answer what they are asked.
    Answer,
    /// Everybody else: to look.
    Look,
}

impl Rights {
    fn allow(self, ask: &Ask) -> bool {
        match self {
            Self::Own => true,
            Self::Answer => matches!(ask, Ask::Status | Ask::Consent { .. }),
            Self::Look => matches!(ask, Ask::Status),
        }
    }
}

/// Lets people in who knock at the socket.
pub struct Control {
    socket: Socket,
    doors: BTreeMap<ProfileName, mpsc::Sender<Asked>>,
    runner: Runner,
}

/// A socket that listens; its file goes with it.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens at a path. A socket that a daemon left when it was killed is replaced; one at which
    /// somebody answers is not.
    ///
    /// # Errors
    /// When there can be no socket.
    pub async fn open(
        path: &Path,
        doors: BTreeMap<ProfileName, mpsc::Sender<Asked>>,
        runner: Runner,
    ) -> Result<Self, NoSocket> {
        let io = |source| NoSocket::Io { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            // Everybody may ask for the status, so everybody must get there.
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(io)?;
        }
        make_way(path).await?;
        let listener = UnixListener::bind(path).map_err(io)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(io)?;
        Ok(Self { socket: Socket { listener, path: path.to_owned() }, doors, runner })
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self) {
        let own = rustix::process::geteuid().as_raw();
        let (owners, others) = (Arc::new(Semaphore::new(OWNERS)), Arc::new(Semaphore::new(OTHERS)));
        let control = Rc::new(self);
        loop {
            let accepted = control.socket.listener.accept().await;
            let peer = accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
            let (uid, mut stream) = match peer {
                Ok(peer) => peer,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection to the control socket");
                    sleep(NO_CONNECTION).await;
                    continue;
                }
            };
            let is_owner = uid == 0 || uid == own;
            let places = if is_owner { &owners } else { &others };
            let Ok(place) = Arc::clone(places).try_acquire_owned() else {
                tokio::task::spawn_local(async move {
                    say(&mut stream, &Answer::Denied(Denied::Busy)).await;
                });
                continue;
            };
            let control = Rc::clone(&control);
            tokio::task::spawn_local(async move {
                control.answer(stream, uid, is_owner).await;
                if !is_owner {
                    sleep(BREATH).await;
                }
                drop(place);
            });
        }
    }

    async fn answer(&self, mut stream: UnixStream, uid: u32, is_owner: bool) {
        let mut bytes = Vec::new();
        let most = (HEAD_LIMIT + ORDER_LIMIT + 1) as u64;
        let read = timeout(PATIENCE, (&mut stream).take(most).read_to_end(&mut bytes)).await;
        if !matches!(read, Ok(Ok(_))) {
            tracing::debug!(uid, "somebody at the control socket did not say what they want");
            return;
        }
        let answer = self.outcome(&bytes, uid, is_owner).await.unwrap_or_else(Answer::Denied);
        say(&mut stream, &answer).await;
    }

    async fn outcome(&self, bytes: &[u8], uid: u32, is_owner: bool) -> Result<Answer, Denied> {
        let (Head { profile, ask, .. }, order) = Head::decode(bytes)?;
        let what = ask.name();
        if !self.rights(&ask, uid, is_owner).await.allow(&ask) {
            tracing::warn!(uid, what, "refused somebody at the host");
            return Err(Denied::NotAllowed { what: what.into(), uid });
        }
        let Some(door) = self.doors.get(&profile) else {
            let known = self.doors.keys().cloned().collect();
            return Err(Denied::UnknownProfile { profile, known });
        };
        if ask != Ask::Status {
            tracing::info!(%profile, uid, what, "somebody at the host asks");
        }
        let (answer, answered) = oneshot::channel();
        let asked = Asked { request: ask.into_request(order), answer };
        let met = timeout(ANSWER_LIMIT, async {
            door.send(asked).await.ok()?;
            answered.await.ok()
        });
        match met.await {
            Ok(Some(Ok(status))) => Ok(Answer::Done(Box::new(status))),
            Ok(Some(Err(refused))) => Ok(Answer::Refused(refused)),
            Ok(None) | Err(_) => Err(Denied::NoAnswer),
        }
    }

    /// Looks who is logged in only where that decides.
    async fn rights(&self, ask: &Ask, uid: u32, is_owner: bool) -> Rights {
        match ask {
            _ if is_owner => Rights::Own,
            Ask::Consent { .. } if people::is_logged_in(self.runner, uid).await => Rights::Answer,
            _ => Rights::Look,
        }
    }
}

/// Removes the socket of a daemon that was killed.
async fn make_way(path: &Path) -> Result<(), NoSocket> {
    let io = |source| NoSocket::Io { path: path.to_owned(), source };
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if fs::symlink_metadata(path).map_err(io)?.file_type().is_socket() {
                fs::remove_file(path).map_err(io)
            } else {
                Err(NoSocket::NotASocket { path: path.to_owned() })
            }
        }
        // One whose queue is full answers like that.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(io(error)),
        Ok(_) | Err(_) => Err(NoSocket::Taken { path: path.to_owned() }),
    }
}

/// Whoever asked may be gone; what they asked for is done all the same.
async fn say(stream: &mut UnixStream, answer: &Answer) {
    let answer = line(answer);
    let said = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await
    };
    let _ = timeout(PATIENCE, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_may_look_and_those_who_are_logged_in_may_answer() {
        let hold = Ask::Hold { reason: "x".parse().unwrap() };
        let consent = Ask::Consent { agrees: true };
        for (ask, expected) in [
            (Ask::Status, [true, true, true]),
            (consent, [true, true, false]),
            (hold, [true, false, false]),
            (Ask::Resume, [true, false, false]),
            (Ask::RollBack, [true, false, false]),
            (Ask::Apply, [true, false, false]),
        ] {
            let allowed = [Rights::Own, Rights::Answer, Rights::Look].map(|who| who.allow(&ask));
            assert_eq!(allowed, expected, "{ask:?}");
        }
    }
}

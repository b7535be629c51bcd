//! Sees when a link is replaced, without looking again and again.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// The bytes of an event before its name: descriptor, flags, cookie, the name's length.
const HEADER: usize = 16;
/// Enough for many events with names of the greatest length.
const BUFFER: usize = 4096;

/// Watches one link, by what happens in its folder (inotify(7)).
#[derive(Debug)]
pub struct LinkWatch {
    /// Not a pipe, but read like one.
    events: Receiver,
    name: OsString,
}

impl LinkWatch {
    /// Begins to watch. What happens from now on is seen, whenever it is asked for.
    ///
    /// # Errors
    /// What the system said.
    pub fn new(link: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (link.parent(), link.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, folder, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
        let events = Receiver::from_owned_fd_unchecked(events)?;
        Ok(Self { events, name: name.to_owned() })
    }

    /// Waits until the link was made or replaced.
    ///
    /// # Errors
    /// What the system said.
    pub async fn replaced(&self) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        let mut replaced = false;
        loop {
            match self.events.try_read(&mut buffer) {
                Ok(read) => replaced |= names(&buffer[..read], &self.name),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Err(_) if replaced => return Ok(()),
                Err(_) => self.events.readable().await?,
            }
        }
    }
}

/// Tells whether a file is named by one of the events, or may be: the queue overflowed.
fn names(mut events: &[u8], name: &OsStr) -> bool {
    while let Some((header, rest)) = events.split_at_checked(HEADER) {
        let field =
            |at: usize| header[at..at + 4].try_into().map(u32::from_ne_bytes).unwrap_or_default();
        let length = usize::try_from(field(12)).unwrap_or(usize::MAX);
        let (padded, rest) = rest.split_at(length.min(rest.len()));
        let named = padded.split(|byte| *byte == 0).next().unwrap_or_default();
        if named == name.as_bytes() || field(4) & ReadFlags::QUEUE_OVERFLOW.bits() != 0 {
            return true;
        }
        events = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, time::Duration};

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn a_link_that_is_replaced_is_seen_and_what_else_happens_in_its_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [link, other] = ["current-system", "other"].map(|name| folder.path().join(name));
        let watch = LinkWatch::new(&link).unwrap();
        symlink("a", &other).unwrap();
        timeout(SHORT, watch.replaced()).await.unwrap_err();
        fs::rename(&other, &link).unwrap();
        timeout(LONG, watch.replaced()).await.unwrap().unwrap();
        timeout(SHORT, watch.replaced()).await.unwrap_err();
        fs::remove_file(&link).unwrap();
        symlink("b", &link).unwrap();
        timeout(LONG, watch.replaced()).await.unwrap().unwrap();
    }
}

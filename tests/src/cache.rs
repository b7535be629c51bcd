//! A binary cache over HTTP, which can be told to be hostile.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// How a cache sends archives. What it says of them is what is in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As they are.
    Honest,
    /// A byte now and then.
    Drips,
    /// One file without an end.
    Endless,
}

/// Serves a folder on a port of loopback, for as long as the process lives.
pub struct Cache {
    folder: PathBuf,
    port: u16,
    asked: Arc<AtomicUsize>,
    manner: Arc<Mutex<Manner>>,
}

/// How often a byte is sent where they drip.
const DRIP: Duration = Duration::from_millis(100);

impl Cache {
    /// Begins to serve a folder, which need not be there yet.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub fn of(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port to listen on");
        let cache = Self {
            folder: folder.to_owned(),
            port: listener.local_addr().expect("it listens").port(),
            asked: Arc::default(),
            manner: Arc::new(Mutex::new(Manner::Honest)),
        };
        let (folder, asked) = (cache.folder.clone(), Arc::clone(&cache.asked));
        let manner = Arc::clone(&cache.manner);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (folder, asked) = (folder.clone(), Arc::clone(&asked));
                let manner = Arc::clone(&manner);
                // Whoever hangs up has had enough.
                thread::spawn(move || drop(answer(client, &folder, &asked, &manner)));
            }
        });
        cache
    }

    /// Gives its address for hosts.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Gives its address for the operator, who signs what is copied there with a key, if that is given.
    pub fn for_operator(&self, key: Option<&str>) -> String {
        let key = key.map(|key| format!("&secret-key={key}")).unwrap_or_default();
        format!("file://{}?compression=none{key}", self.folder.display())
    }

    /// Has it send archives in another manner from now on.
    pub fn send(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// Tells how many requests have come.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers one request, and hangs up.
fn answer(
    mut client: TcpStream,
    folder: &Path,
    asked: &AtomicUsize,
    manner: &Mutex<Manner>,
) -> io::Result<()> {
    let mut head = BufReader::new(client.try_clone()?).lines();
    let request = head.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    asked.fetch_add(1, Ordering::Relaxed);
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let Ok(bytes) = fs::read(folder.join(name)) else {
        return client.write_all(
            b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        );
    };
    let manner = match name.ends_with(".nar") {
        true => *manner.lock().unwrap_or_else(PoisonError::into_inner),
        false => Manner::Honest,
    };
    let ok = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
    let length = bytes.len();
    match manner {
        Manner::Honest => {
            client.write_all(format!("{ok}Content-Length: {length}\r\n\r\n").as_bytes())?;
            client.write_all(&bytes)
        }
        Manner::Drips => {
            client.write_all(format!("{ok}Content-Length: {length}\r\n\r\n").as_bytes())?;
            for byte in bytes {
                client.write_all(&[byte])?;
                thread::sleep(DRIP);
            }
            Ok(())
        }
        Manner::Endless => {
            client.write_all(format!("{ok}\r\n").as_bytes())?;
            client.write_all(&endless_archive())?;
            loop {
                client.write_all(&[0; 1 << 16])?;
            }
        }
    }
}

/// Gives how the archive of a file of a pebibyte begins (Nix's NAR format).
fn endless_archive() -> Vec<u8> {
    let word = |text: &str| {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let words = ["nix-archive-1", "(", "type", "regular", "contents"];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(word).collect();
    bytes.extend((1u64 << 50).to_le_bytes());
    bytes
}

//! A wire between clients and a broker, which can be cut so that only the clients notice.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Passes connections on to a port of loopback, for as long as the process lives.
pub struct Wire {
    port: u16,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

struct Connection {
    client: TcpStream,
    /// Stays open after a cut, so that the broker takes the client for connected.
    broker: TcpStream,
    /// It was cut, or ended by itself.
    over: AtomicBool,
}

impl Wire {
    /// Begins to pass connections on.
    ///
    /// # Panics
    /// When there is no port to listen on.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port to listen on");
        let port = listener.local_addr().expect("it listens").port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let wire = Self { port, connections: Arc::clone(&connections) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let connection =
                    Arc::new(Connection { client, broker, over: AtomicBool::new(false) });
                let mut all = connections.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(Arc::clone(&connection));
                connection.pass();
            }
        });
        wire
    }

    /// Gives the port where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all connections for the clients; the broker is not told. Gives how many there were.
    pub fn cut(&self) -> usize {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|connection| !connection.over.load(Ordering::Relaxed));
        for connection in &*all {
            connection.over.store(true, Ordering::Relaxed);
            let _ = connection.client.shutdown(Shutdown::Both);
        }
        all.len()
    }
}

impl Connection {
    fn pass(self: Arc<Self>) {
        let other = Arc::clone(&self);
        thread::spawn(move || {
            let _ = copy(&self.client, &self.broker);
            if !self.over.load(Ordering::Relaxed) {
                let _ = self.broker.shutdown(Shutdown::Both);
            }
        });
        thread::spawn(move || {
            let _ = copy(&other.broker, &other.client);
            other.over.store(true, Ordering::Relaxed);
            let _ = other.client.shutdown(Shutdown::Both);
        });
    }
}

/// Copies until one side ends.
fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

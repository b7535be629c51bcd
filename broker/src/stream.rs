pub use tokio::net::TcpStream as Stream;

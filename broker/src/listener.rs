use crate::{limits::Permit, stream::Stream};
pub struct Peer {
    pub address: std::net::SocketAddr,
    pub certificate: Option<String>,
    pub anonymous: bool,
}
pub struct Accepted {
    pub stream: Stream,
    pub peer: Peer,
    pub permit: Permit,
    pub deadline: tokio::time::Instant,
    pub full: bool,
}

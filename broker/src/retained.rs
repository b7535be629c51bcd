use crate::message::*;
use bytes::Bytes;
use std::{collections::*, path::*, sync::Mutex};
#[derive(Debug, Clone)]
pub struct Session {
    pub owner: String,
    pub subscriptions: Vec<Subscription>,
}
#[derive(Debug, Clone)]
pub struct Subscription {
    pub filter: String,
    pub qos: u8,
    pub acked: Revision,
}
#[derive(Debug, Clone)]
pub enum Change {
    Retain { topic: Bytes, payload: Bytes },
    Clear { topic: Bytes },
    SaveSession { client: String, session: Session },
    DropSession { client: String },
}
pub enum Matching<'a> {
    Topic(&'a str),
    Prefix(&'a str),
}
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("x")]
    NoSpace { path: PathBuf, free: u64, needed: u64 },
    #[error("y")]
    Failed,
}
#[derive(Debug, thiserror::Error)]
#[error("r")]
pub struct ReadError;
pub type OpenError = ReadError;
#[derive(Default, Debug)]
pub struct Store(
    Mutex<(u64, BTreeMap<String, Revision>, BTreeMap<Revision, Message>, HashMap<String, Session>)>,
);
impl Store {
    pub fn open(_: &Path) -> Result<Self, ReadError> {
        Ok(Self::default())
    }
    pub fn commit(&self, changes: &[Change]) -> Result<Vec<Option<Revision>>, CommitError> {
        let mut s = self.0.lock().unwrap();
        let s = &mut *s;
        Ok(changes
            .iter()
            .map(|c| match c {
                Change::Retain { topic, payload } => {
                    s.0 += 1;
                    let r = Revision::new(s.0);
                    if let Some(o) = s.1.insert(String::from_utf8(topic.to_vec()).unwrap(), r) {
                        s.2.remove(&o);
                    }
                    s.2.insert(
                        r,
                        Message {
                            topic: topic.clone(),
                            payload: payload.clone(),
                            revision: Some(r),
                        },
                    );
                    Some(r)
                }
                Change::Clear { topic } => {
                    if let Some(o) = s.1.remove(std::str::from_utf8(topic).unwrap()) {
                        s.2.remove(&o);
                    }
                    None
                }
                Change::SaveSession { client, session } => {
                    s.3.insert(client.clone(), session.clone());
                    None
                }
                Change::DropSession { client } => {
                    s.3.remove(client);
                    None
                }
            })
            .collect())
    }
    pub fn retained(&self) -> u64 {
        self.0.lock().unwrap().1.len() as u64
    }
    pub fn newer(&self, m: Matching, than: Revision) -> Result<Vec<Revision>, ReadError> {
        let s = self.0.lock().unwrap();
        let mut v: Vec<_> = match m {
            Matching::Topic(t) => s.1.get(t).copied().into_iter().collect(),
            Matching::Prefix(p) => {
                s.1.range(p.to_owned()..)
                    .take_while(|(k, _)| k.starts_with(p))
                    .map(|(_, r)| *r)
                    .collect()
            }
        };
        v.retain(|r| *r > than);
        v.sort();
        Ok(v)
    }
    pub fn messages(&self, r: &[Revision]) -> Result<Vec<Message>, ReadError> {
        let s = self.0.lock().unwrap();
        Ok(r.iter().filter_map(|r| s.2.get(r).cloned()).collect())
    }
    pub fn session(&self, c: &str) -> Result<Option<Session>, ReadError> {
        Ok(self.0.lock().unwrap().3.get(c).cloned())
    }
}

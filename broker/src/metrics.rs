use crate::refusal::Refusal;
use std::time::Duration;
#[derive(Debug, Default)]
pub struct Metrics;
impl Metrics {
    pub fn opened(&self, _: u64) {}
    pub fn refused(&self, _: Refusal) {}
    pub fn received(&self, _: usize) {}
    pub fn sent(&self, _: usize) {}
    pub fn message_received(&self) {}
    pub fn session_began(&self) {}
    pub fn session_ended(&self) {}
    pub fn committed(&self, _: Duration, _: u64) {}
}

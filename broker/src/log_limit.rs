#[derive(Debug, Default)]
pub struct LogLimit;
impl LogLimit {
    pub fn warn(&self, _: &'static str, f: impl FnOnce()) {
        f()
    }
    pub fn info(&self, _: &'static str, f: impl FnOnce()) {
        f()
    }
}

#[derive(Debug)]
pub struct Permit;

//! How a release reaches its hosts.

codes! {
    /// The pace of a release. A host refuses an order with a plan that it does not know, as it
    /// could not know what to wait for.
    pub enum Plan {
        /// Each host goes as soon as it has staged its closure.
        Immediate = 0 => "immediate",
    }
}

use std::process::Output;

use super::{Answer, Broker, Desk, Host, Scripted, answers, path, stdout};

/// An operator's desk and a broker.
pub(crate) struct Scene {
    pub(crate) desk: Desk,
    pub(crate) broker: Broker,
    pub(crate) operator: String,
}

impl Scene {
    /// With these hosts' keys in the fleet file; none of them is connected.
    pub(crate) fn new(hosts: &[&Host]) -> Self {
        Self::with_broker(Broker::start(), hosts)
    }

    /// The same with a broker of its own kind.
    pub(crate) fn with_broker(broker: Broker, hosts: &[&Host]) -> Self {
        let desk = Desk::new();
        let operator = stdout(&desk.herald("key public")).trim().to_owned();
        desk.fleet(&broker.url(), hosts);
        Self { desk, broker, operator }
    }

    /// With one host, `alpha`, that answers each order with the next of these lists.
    pub(crate) fn with_alpha(lists: &[&[Answer]]) -> (Self, Scripted) {
        let alpha = Host::new("alpha", 1);
        let scene = Self::new(&[&alpha]);
        let alpha = scene.connect(alpha, lists);
        (scene, alpha)
    }

    /// Connects a host that answers each order with the next of these lists.
    pub(crate) fn connect(&self, host: Host, lists: &[&[Answer]]) -> Scripted {
        Scripted::start(host, &self.broker, &self.operator, answers(lists))
    }

    /// Publishes a new system to `alpha`.
    pub(crate) fn publish(&self, more: &str) -> Output {
        let new = path("new");
        self.desk.herald(&format!("publish --host alpha={new} --integrity toplevel {more}"))
    }
}

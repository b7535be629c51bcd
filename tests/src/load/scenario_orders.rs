//! Orders: a different signed message, retained, to each host, which verifies it.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use super::{
    failure::Failure,
    names,
    orders::Orders,
    publishing::Publishing,
    session::{Heard, News},
    stage::Stage,
    stats::millis,
    swarm::{Part, Swarm},
    table::Ledger,
};

/// Orders on their way. What came is kept, and looked at when the clock has stopped.
struct Delivery<'a> {
    publishing: Publishing<'a>,
    received: Vec<Option<Vec<u8>>>,
    arrived: usize,
    last: Instant,
}

impl Part for Delivery<'_> {
    fn hear(&mut self, heard: &Heard<'_>) -> Result<(), Failure> {
        let News::Message { topic, payload, .. } = heard.news else {
            return self.publishing.hear(heard);
        };
        let wrong = |what: &str| {
            let what = format!("{topic}: {what}");
            Err(Failure::Answer { client: format!("client {}", heard.client), what })
        };
        match self.received.get_mut(heard.client) {
            None => return wrong("no host, and heard a message"),
            Some(Some(_)) => return wrong("the order came twice"),
            Some(place) => *place = Some(payload.to_vec()),
        }
        self.arrived += 1;
        self.last = heard.at;
        Ok(())
    }

    fn act(&mut self, swarm: &mut Swarm) -> Result<bool, Failure> {
        Ok(self.publishing.act(swarm)? && self.arrived == self.received.len())
    }

    fn missing(&self) -> String {
        let left = self.received.len() - self.arrived;
        format!("{left} hosts have no order; {}", self.publishing.missing())
    }
}

/// Measures how fast orders reach their hosts, and lets each host verify its own.
pub(crate) fn run(
    stage: &mut Stage<'_>,
    ledger: &mut Ledger,
    orders: &Orders,
) -> Result<(), Failure> {
    let message =
        |number: usize| (names::desired(number), Cow::Borrowed(&orders.messages[number][..]));
    let publishing =
        Publishing::new(stage.publisher, stage.hosts, stage.settings.window, Box::new(message));
    let mut delivery = Delivery {
        publishing,
        received: vec![None; stage.hosts],
        arrived: 0,
        last: Instant::now(),
    };
    let before = stage.broker.processor_time()?;
    stage.play(&mut delivery, "an order to each host")?;
    let took = delivery.last.saturating_duration_since(delivery.publishing.began());
    stage.rest(&mut |heard| delivery.hear(heard))?;
    let processor = stage.broker.processor_time()?.saturating_sub(before);

    let began = Instant::now();
    for (number, message) in delivery.received.iter().enumerate() {
        orders.verify(number, message.as_deref().unwrap_or_default())?;
    }
    let verified = began.elapsed() / stage.hosts as u32;
    let bytes: usize = orders.messages.iter().map(Vec::len).sum();
    let rate = stage.hosts as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
    let side = stage.side;
    ledger.add(side, "orders_per_second", rate);
    ledger.time(side, "orders_cpu_ms", processor);
    ledger.add(side, "order_bytes", bytes as f64 / stage.hosts as f64);
    ledger.add(side, "order_verify_us", millis(verified) * 1000.0);
    stage.say(format_args!(
        "orders: {rate:.0} a second, all verified ({:.0} us each)",
        verified.as_secs_f64() * Duration::from_secs(1).as_micros() as f64
    ));
    Ok(())
}

//! How orders progress, on stderr: a line for each host that changes in place on a terminal, and
//! plain lines everywhere else.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use herald_fleet::outcome::Standing;
use herald_proto::host::HostId;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{clock, output};

/// With more hosts than this a terminal gets plain lines too.
const MOST_BARS: usize = 24;

/// Shows how the orders of a publication stand.
pub(crate) struct Progress {
    began: Instant,
    width: usize,
    /// By host: the word that was shown last.
    words: BTreeMap<HostId, String>,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    each: BTreeMap<HostId, ProgressBar>,
}

impl Progress {
    /// Begins to show these hosts.
    pub(crate) fn new<'a>(hosts: impl IntoIterator<Item = &'a HostId>) -> Self {
        let hosts: Vec<_> = hosts.into_iter().collect();
        let width = hosts.iter().map(|host| host.as_str().len()).max().unwrap_or(0);
        let bars = (std::io::stderr().is_terminal() && hosts.len() <= MOST_BARS)
            .then(|| Bars::new(&hosts, width));
        Self { began: Instant::now(), width, words: BTreeMap::new(), bars }
    }

    /// Shows a host's new standing.
    pub(crate) fn show(&mut self, host: &HostId, standing: &Standing) {
        let ended = standing.outcome().is_some();
        let mut text = one_line(&standing.to_string());
        if ended {
            text = format!("{text}  {}", clock::seconds(self.elapsed()));
        }
        if let Some(bar) = self.bars.as_ref().and_then(|bars| bars.each.get(host)) {
            bar.set_message(text.clone());
            if ended {
                bar.finish();
            }
            return;
        }
        // How far the realising is would be many lines; a new phase is one.
        let word = standing.word();
        if self.words.insert(host.clone(), word.clone()).as_ref() != Some(&word) {
            output::note(&format!("{:width$}  {text}", host.as_str(), width = self.width));
        }
    }

    /// Says something that is not about one host's order.
    pub(crate) fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// Gives the time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Leaves the lines as they are.
    pub(crate) fn end(&self) {
        for bar in self.bars.iter().flat_map(|bars| bars.each.values()) {
            if !bar.is_finished() {
                bar.abandon();
            }
        }
    }
}

impl Bars {
    fn new(hosts: &[&HostId], width: usize) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{spinner} {prefix}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let each = hosts.iter().map(|host| {
            let bar = all.add(ProgressBar::new_spinner().with_style(style.clone()));
            bar.set_prefix(format!("{:width$}", host.as_str()));
            bar.set_message("published");
            bar.enable_steady_tick(Duration::from_millis(120));
            ((*host).clone(), bar)
        });
        Self { each: each.collect(), all }
    }
}

/// Writes a text of several lines as one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

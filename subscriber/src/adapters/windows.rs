//! Maintenance windows: systemd's calendar expressions, each the beginning of a window.

use std::time::{Duration, SystemTime};

use herald_core::{Cause, Failure, Window};
use herald_proto::{rejection::Code, time::Timestamp};

use super::command::{self, CommandFailed};
use crate::ports::{Pending, Windows};

/// How long it takes until somebody looks again where no window opens any more, or there is none.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// When a host may be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Calendar expressions (systemd.time(7)), in the host's own time: a window opens at each.
    pub opens: Vec<String>,
    /// How long each window is open, such as `2h`.
    #[serde(deserialize_with = "crate::config::span")]
    pub lasts: Duration,
}

/// An expression can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCalendar {
    /// systemd does not take it, or can't be asked.
    #[error("the calendar expression {expression:?} can't be used")]
    Expression {
        /// Which one.
        expression: String,
        /// What systemd said.
        source: CommandFailed,
    },
    /// What it says was not understood.
    #[error("systemd-analyze says something unexpected about {expression:?}: {said:?}")]
    Answer {
        /// About which one.
        expression: String,
        /// What it says.
        said: String,
    },
    /// No window is ever open.
    #[error("a window needs a time at which it opens, and must last for some time")]
    NeverOpen,
}

impl Calendar {
    /// Checks that windows open, and for some time.
    ///
    /// # Errors
    /// Which expression can't be used, and what systemd says about it.
    pub async fn check(&self) -> Result<(), BadCalendar> {
        if self.opens.is_empty() || self.lasts.is_zero() {
            return Err(BadCalendar::NeverOpen);
        }
        for expression in &self.opens {
            next(expression, Timestamp::default()).await?;
        }
        Ok(())
    }

    async fn at(&self, time: Timestamp) -> Result<Window, BadCalendar> {
        // A window that is open now opened less than its length ago.
        let earliest = Timestamp::from_millis(
            time.as_millis()
                .saturating_sub(u64::try_from(self.lasts.as_millis()).unwrap_or(u64::MAX)),
        );
        let mut closes = None;
        let mut opens = None;
        for expression in &self.opens {
            let Some(mut opening) = next(expression, earliest).await? else { continue };
            if opening <= time {
                closes = closes.max(Some(opening.plus(self.lasts)));
                let Some(after) = next(expression, time).await? else { continue };
                opening = after;
            }
            opens = Some(opens.map_or(opening, |first: Timestamp| first.min(opening)));
        }
        Ok(match closes.filter(|closes| *closes > time) {
            Some(closes) => Window::Open { closes },
            None => Window::Closed { opens: opens.unwrap_or_else(|| time.plus(LOOK_AGAIN)) },
        })
    }
}

impl Windows for Option<Calendar> {
    fn look(&self, at: Timestamp) -> Pending<'_, Result<Window, Failure>> {
        Box::pin(async move {
            let Some(calendar) = self else {
                return Ok(Window::Open { closes: at.plus(LOOK_AGAIN) });
            };
            calendar.at(at).await.map_err(|error| {
                let detail = format!("{:#}", anyhow::Error::from(error));
                Failure { cause: Cause::new(Code::OutsideWindow, &detail), retry: true }
            })
        })
    }
}

/// How long systemd may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Asks systemd when an expression comes true next after a time; none where it never does.
async fn next(expression: &str, after: Timestamp) -> Result<Option<Timestamp>, BadCalendar> {
    let mut ask = command::program("systemd-analyze");
    ask.env("LC_ALL", "C").arg("calendar").arg("--iterations=1");
    ask.arg(format!("--base-time=@{}", after.as_millis() / 1000)).arg("--").arg(expression);
    let said = command::output_within(&mut ask, ASK_LIMIT)
        .await
        .map_err(|source| BadCalendar::Expression { expression: expression.to_owned(), source })?;
    let field = |name: &str| {
        let rest = said.lines().find_map(|line| line.trim_start().strip_prefix(name));
        rest.map(|rest| rest.trim().to_owned())
    };
    // The second line is there where the host's own time is another one.
    let elapses = field("(in UTC):").or_else(|| field("Next elapse:"));
    let unexpected =
        || BadCalendar::Answer { expression: expression.to_owned(), said: said.clone() };
    match elapses.ok_or_else(unexpected)?.as_str() {
        "never" => Ok(None),
        time => utc(time).map(Some).ok_or_else(unexpected),
    }
}

/// Reads `Sat 2026-01-03 01:00:00 UTC`.
fn utc(text: &str) -> Option<Timestamp> {
    let mut words = text.strip_suffix(" UTC")?.split_whitespace().skip(1);
    let (date, time) = (words.next()?, words.next()?);
    let time = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    Some(Timestamp::from_millis(u64::try_from(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        utc(&format!("Day {text} UTC")).unwrap()
    }

    fn has_systemd_analyze() -> bool {
        let found = std::process::Command::new("systemd-analyze").arg("--version").output().is_ok();
        if !found {
            eprintln!("SKIPPED: systemd-analyze is not installed");
        }
        found
    }

    #[tokio::test]
    async fn a_window_is_open_from_when_its_expression_comes_true_for_as_long_as_it_lasts() {
        if !has_systemd_analyze() {
            return;
        }
        let opens = vec!["Sat 02:00 UTC".to_owned(), "2026-12-24 18:00 UTC".to_owned()];
        let calendar = Calendar { opens, lasts: Duration::from_secs(2 * 60 * 60) };
        calendar.check().await.unwrap();
        let cases = [
            ("2026-11-27 12:00:00", Window::Closed { opens: time("2026-11-28 02:00:00") }),
            ("2026-11-28 01:59:59", Window::Closed { opens: time("2026-11-28 02:00:00") }),
            ("2026-11-28 02:00:00", Window::Open { closes: time("2026-11-28 04:00:00") }),
            ("2026-11-28 03:59:59", Window::Open { closes: time("2026-11-28 04:00:00") }),
            ("2026-11-28 04:00:00", Window::Closed { opens: time("2026-12-05 02:00:00") }),
            ("2026-12-24 19:00:00", Window::Open { closes: time("2026-12-24 20:00:00") }),
            ("2026-12-24 20:00:00", Window::Closed { opens: time("2026-12-26 02:00:00") }),
        ];
        for (at, expected) in cases {
            assert_eq!(calendar.at(time(at)).await.unwrap(), expected, "{at}");
        }
    }

    #[tokio::test]
    async fn a_window_that_never_opens_again_is_closed_and_one_that_is_nonsense_is_named() {
        if !has_systemd_analyze() {
            return;
        }
        let lasts = Duration::from_secs(60);
        let past = Calendar { opens: vec!["2020-01-01 00:00 UTC".into()], lasts };
        let now = time("2026-11-28 02:00:00");
        assert_eq!(past.at(now).await.unwrap(), Window::Closed { opens: now.plus(LOOK_AGAIN) });
        let nonsense = Calendar { opens: vec!["Someday".into()], lasts };
        let error = nonsense.check().await.unwrap_err();
        assert!(error.to_string().contains("Someday"), "{error}");
        let failure = Some(nonsense).look(now).await.unwrap_err();
        assert!(failure.cause.detail.as_str().contains("Someday"), "{:?}", failure.cause);
        let never = Calendar { opens: vec![], lasts };
        assert!(matches!(never.check().await, Err(BadCalendar::NeverOpen)));
    }
}

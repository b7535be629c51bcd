//! Asking whoever uses the machine: a notification on their desktop, a line on their terminal.

use std::{pin::pin, process::Stdio, time::Duration};

use herald_proto::{target::Target, time::Timestamp};
use tokio::task::JoinSet;

use super::command;
use crate::{
    config::Runner,
    ports::{Pending, People},
};

/// How long writing to terminals may take.
const WALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a notification may stay without an answer before its program is given up.
const NOTICE_LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The sessions of this machine, as logind knows them.
pub struct Sessions {
    /// Whether there is a logind to ask.
    pub runner: Runner,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    user: String,
    has_desktop: bool,
}

impl People for Sessions {
    fn ask<'a>(&'a self, target: &'a Target, until: Timestamp) -> Pending<'a, Option<bool>> {
        Box::pin(async move {
            if self.runner == Runner::Direct {
                return None;
            }
            let sessions = match sessions().await {
                Ok(sessions) => sessions,
                Err(error) => {
                    tracing::warn!(%error, "cannot find out who uses this machine");
                    return None;
                }
            };
            if sessions.is_empty() {
                tracing::info!("nobody is logged in, so nobody has to agree");
                return Some(true);
            }
            let text = format!(
                "{} of {} is ready. Without an answer it goes on at {until}. \
                 To answer here: herald-subscriber consent now, or later",
                target.action,
                target.toplevel.name()
            );
            tell_terminals(&text).await;
            first_answer(sessions, &text).await
        })
    }
}

/// Tells whether a user has a session of their own; a service that runs for them is none.
pub async fn is_logged_in(runner: Runner, uid: u32) -> bool {
    if runner == Runner::Direct {
        return false;
    }
    let mut show = command::program("loginctl");
    show.args(["show-user", "--property=State", "--value", "--"]).arg(uid.to_string());
    let state = command::output_within(&mut show, WALL_LIMIT).await;
    // loginctl(1): "lingering" and "closing" are those without a session.
    state.is_ok_and(|state| matches!(state.trim(), "active" | "online"))
}

/// Gives the first answer from a desktop; none where nobody can or does answer there.
async fn first_answer(sessions: Vec<Session>, text: &str) -> Option<bool> {
    let mut notices = JoinSet::new();
    for session in sessions.into_iter().filter(|session| session.has_desktop) {
        let text = text.to_owned();
        notices.spawn(async move { notify(&session.user, &text).await });
    }
    while let Some(answer) = notices.join_next().await {
        if let Ok(Some(agrees)) = answer {
            return Some(agrees);
        }
    }
    None
}

/// Lists the people who are logged in, each once.
async fn sessions() -> Result<Vec<Session>, command::CommandFailed> {
    let listed = command::output_within(
        command::program("loginctl").args(["list-sessions", "--no-legend"]),
        WALL_LIMIT,
    )
    .await?;
    let mut sessions: Vec<Session> = Vec::new();
    for id in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let mut show = command::program("loginctl");
        show.args(["show-session", "--property=Name", "--property=Class", "--property=Type", "--"]);
        // One that ended meanwhile is nobody's.
        let Ok(shown) = command::output_within(show.arg(id), WALL_LIMIT).await else { continue };
        let Some(session) = session(&shown) else { continue };
        match sessions.iter_mut().find(|known| known.user == session.user) {
            Some(known) => known.has_desktop |= session.has_desktop,
            None => sessions.push(session),
        }
    }
    Ok(sessions)
}

/// Reads what `loginctl show-session` says; none for sessions that are no person's.
fn session(shown: &str) -> Option<Session> {
    let property = |name: &str| {
        shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let user = property("Name").filter(|name| !name.is_empty())?;
    let has_desktop = matches!(property("Type")?.as_str(), "x11" | "wayland" | "mir");
    (property("Class")? == "user").then_some(Session { user, has_desktop })
}

/// Shows a notification with two buttons on a user's desktop, and waits for what they choose.
async fn notify(user: &str, text: &str) -> Option<bool> {
    let mut show = command::program("systemd-run");
    show.args(["--user", "--quiet", "--collect", "--pipe", "--wait"]);
    show.arg(format!("--machine={user}@")).args(["--", "notify-send", "--wait"]);
    show.args([
        "--app-name=Herald",
        "--urgency=critical",
        "--action=now=Now",
        "--action=later=Later",
    ]);
    show.args(["This machine is to be updated", text]).stderr(Stdio::null());
    let shown = pin!(command::output_within(&mut show, NOTICE_LIMIT));
    match shown.await {
        Ok(chosen) => match chosen.trim() {
            "now" => Some(true),
            "later" => Some(false),
            _ => None,
        },
        Err(error) => {
            tracing::debug!(user, %error, "no notification could be shown");
            None
        }
    }
}

async fn tell_terminals(text: &str) {
    let mut wall = command::program("wall");
    if let Err(error) = command::output_within(wall.arg(text), WALL_LIMIT).await {
        tracing::debug!(%error, "cannot write to the terminals");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_of_people_count_and_a_desktop_is_told_from_a_terminal() {
        let cases = [
            ("Name=ann\nType=wayland\nClass=user\n", Some(("ann", true))),
            ("Name=bob\nType=tty\nClass=user\n", Some(("bob", false))),
            ("Name=gdm\nType=wayland\nClass=greeter\n", None),
            ("Name=ann\nType=unspecified\nClass=manager\n", None),
            ("Type=tty\nClass=user\n", None),
            ("", None),
        ];
        for (shown, expected) in cases {
            let expected =
                expected.map(|(user, has_desktop)| Session { user: user.into(), has_desktop });
            assert_eq!(session(shown), expected, "{shown:?}");
        }
    }
}

//! Asking whoever uses the machine: a notification on their desktop, a line on their terminal.

use std::{
    collections::HashMap, env, ffi::OsStr, future::pending, path::PathBuf, process::Stdio,
    time::Duration,
};

use herald_proto::{
    target::{Action, Target},
    time::Timestamp,
};
use tokio::{
    process::Command,
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::command;
use crate::{
    config::Runner,
    ports::{Pending, People},
};

/// How long writing to terminals, or what only looks something up, may take.
const WALL_LIMIT: Duration = Duration::from_secs(10);
/// How long a notification may stay without an answer before its program is given up.
const NOTICE_LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often is looked who has come and gone since.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// The sessions of this machine, as logind knows them.
pub struct Sessions {
    /// Whether there is a logind to ask.
    pub runner: Runner,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    user: String,
    /// The session in which they have one.
    desktop: Option<String>,
}

impl People for Sessions {
    fn ask<'a>(&'a self, target: &'a Target, until: Timestamp) -> Pending<'a, Option<bool>> {
        Box::pin(async move {
            if self.runner == Runner::Direct {
                return None;
            }
            let text = words(target.action, &local(until).await);
            let name = format!("herald-consent-{}-{until}", target.profile);
            let mut notices = Notices::new(name, text.clone());
            let (mut is_told, mut was_empty) = (false, false);
            loop {
                let sessions = match sessions().await {
                    Ok(sessions) => sessions,
                    Err(error) => {
                        tracing::warn!(%error, "cannot find out who uses this machine");
                        return None;
                    }
                };
                // Whoever was asked may be logging in anew, or the machine be shutting down.
                if sessions.is_empty() && (was_empty || !is_told) {
                    tracing::info!("nobody is logged in, so nobody has to agree");
                    return Some(true);
                }
                was_empty = sessions.is_empty();
                if !is_told {
                    tell_terminals(&text).await;
                    is_told = true;
                }
                notices.show_to(&sessions);
                if let Ok(agrees) = timeout(LOOK_AGAIN, notices.answer()).await {
                    return Some(agrees);
                }
            }
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

/// The notifications on people's desktops. All are taken away with this.
struct Notices {
    /// One that a killed daemon left for the same question has the same.
    name: String,
    text: String,
    /// The desktop on which somebody was asked last.
    asked: HashMap<String, (String, AbortHandle)>,
    answers: JoinSet<Option<bool>>,
}

impl Notices {
    fn new(name: String, text: String) -> Self {
        Self { name, text, asked: HashMap::new(), answers: JoinSet::new() }
    }

    /// Asks each on the desktop that they have now: one that was logged out took its question along.
    fn show_to(&mut self, sessions: &[Session]) {
        for Session { user, desktop } in sessions {
            let Some(desktop) = desktop else { continue };
            match self.asked.get(user) {
                Some((known, _)) if known == desktop => continue,
                Some((_, earlier)) => earlier.abort(),
                None => {}
            }
            let unit = format!("{}-{desktop}.service", self.name);
            let notice = Notice { user: user.clone(), unit };
            let text = self.text.clone();
            let shown = self.answers.spawn(async move { notice.show(&text).await });
            self.asked.insert(user.clone(), (desktop.clone(), shown));
        }
    }

    /// Gives the first answer; waits for ever where nobody can or does answer there.
    async fn answer(&mut self) -> bool {
        while let Some(answer) = self.answers.join_next().await {
            if let Ok(Some(agrees)) = answer {
                return agrees;
            }
        }
        pending().await
    }
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
        let Some(session) = session(id, &shown) else { continue };
        match sessions.iter_mut().find(|known| known.user == session.user) {
            Some(known) => known.desktop = known.desktop.take().or(session.desktop),
            None => sessions.push(session),
        }
    }
    Ok(sessions)
}

/// Reads what `loginctl show-session` says; none for sessions that are no person's.
fn session(id: &str, shown: &str) -> Option<Session> {
    let property = |name: &str| {
        shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let user = property("Name").filter(|name| !name.is_empty())?;
    let has_desktop = matches!(property("Type")?.as_str(), "x11" | "wayland" | "mir");
    let desktop = has_desktop.then(|| id.to_owned());
    (property("Class")? == "user").then_some(Session { user, desktop })
}

/// A notification on a user's desktop, which is taken away with this.
struct Notice {
    user: String,
    unit: String,
}

impl Notice {
    /// Shows it with two buttons, and waits for what they choose.
    async fn show(self, text: &str) -> Option<bool> {
        // One that a daemon left when it was killed.
        let _ = command::output_within(&mut self.stop(), WALL_LIMIT).await;
        let mut show = command::program("systemd-run");
        show.args(["--user", "--quiet", "--collect", "--pipe", "--wait"]);
        // notify-send(1) takes its notification back when it is interrupted.
        show.args(["--property=KillSignal=SIGINT", "--property=TimeoutStopSec=5s"]);
        show.arg(format!("--machine={}@", self.user)).arg(format!("--unit={}", self.unit));
        // The user's own PATH need not have it.
        let path = env::var_os("PATH").unwrap_or_default();
        show.arg("--").arg(place(&path, "notify-send"));
        show.args(["--wait", "--app-name=Herald", "--urgency=critical"]);
        show.args(["--action=now=Now", "--action=later=Later"]);
        show.args(["This machine is to be updated", text]).stderr(Stdio::null());
        match command::output_within(&mut show, NOTICE_LIMIT).await {
            Ok(chosen) => match chosen.trim() {
                "now" => Some(true),
                "later" => Some(false),
                _ => None,
            },
            Err(error) => {
                tracing::info!(user = self.user, %error, "no notification could be shown");
                None
            }
        }
    }

    fn stop(&self) -> Command {
        let mut stop = command::program("systemctl");
        stop.args(["--user", "--quiet"]).arg(format!("--machine={}@", self.user));
        stop.args(["stop", "--", &self.unit]).stderr(Stdio::null());
        stop
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        // Where the daemon itself ends, the next one takes it away, or asks again.
        if tokio::runtime::Handle::try_current().is_ok() {
            let _ = self.stop().kill_on_drop(false).spawn();
        }
    }
}

/// Says what would be done, to somebody who knows nothing of releases.
fn words(action: Action, when: &str) -> String {
    let what = match action {
        Action::Reboot => "An update of this machine is ready, for which it restarts.",
        _ => "An update of this machine is ready.",
    };
    format!(
        "{what} Without an answer it begins on {when}. \
         To answer in a terminal: herald-subscriber consent now, or later"
    )
}

/// Says when that is in the machine's own time.
async fn local(time: Timestamp) -> String {
    let mut date = command::program("date");
    date.arg(format!("--date={time}")).arg("+%a %-d %b, %H:%M");
    match command::output_within(&mut date, WALL_LIMIT).await {
        Ok(said) if !said.trim().is_empty() => said.trim().to_owned(),
        Ok(_) | Err(_) => time.to_string(),
    }
}

/// Gives where this daemon finds a program.
fn place(path: &OsStr, program: &str) -> PathBuf {
    let found = env::split_paths(path).map(|folder| folder.join(program)).find(|at| at.is_file());
    found.unwrap_or_else(|| program.into())
}

async fn tell_terminals(text: &str) {
    let mut wall = command::program("wall");
    if let Err(error) = command::output_within(wall.arg(text), WALL_LIMIT).await {
        tracing::debug!(%error, "cannot write to the terminals");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn whoever_is_asked_is_told_when_it_begins_and_whether_the_machine_restarts() {
        let said = words(Action::Reboot, "Sat 28 Nov, 22:20");
        assert!(said.contains("it restarts") && said.contains("Sat 28 Nov, 22:20"), "{said}");
        assert!(!words(Action::Switch, "now").contains("restarts"));
    }

    #[test]
    fn a_program_is_named_by_its_place_as_a_user_may_have_another_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notify-send"), "").unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), folder.path()]).unwrap();
        assert_eq!(place(&path, "notify-send"), folder.path().join("notify-send"));
        assert_eq!(place(&path, "another"), Path::new("another"));
    }

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
            let expected = expected.map(|(user, has_desktop): (&str, bool)| Session {
                user: user.into(),
                desktop: has_desktop.then(|| "c1".into()),
            });
            assert_eq!(session("c1", shown), expected, "{shown:?}");
        }
    }
}

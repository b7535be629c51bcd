//! What a program of a host printed, as the host tells it.

use crate::{
    host::{HostId, ProfileName},
    id::{Incarnation, TargetHash},
    text::Prose,
    time::Timestamp,
};

codes! {
    /// A program of an attempt.
    pub enum Program {
        /// The switch program of the new system.
        Activate = 0 => "activate",
        /// What prepares the boot loader for a reboot.
        PrepareReboot = 1 => "prepare-reboot",
        /// What makes the new system the profile's and the boot's.
        Commit = 2 => "commit",
        /// What brings the old system back.
        RollBack = 3 => "roll-back",
        /// The same, when the time was over.
        DeadMan = 4 => "dead-man",
    }
}

/// The end of what one program of an attempt printed, signed by the host. A program of which nothing
/// is known, or that printed nothing, has none; one may be told twice.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Log {
    /// The wire version.
    pub version: u16,
    /// The host.
    pub host: HostId,
    /// The profile.
    pub profile: ProfileName,
    /// The life of the host's state.
    pub incarnation: Incarnation,
    /// The attempt's number in that life.
    pub attempt: u64,
    /// The target that it was about.
    pub target: TargetHash,
    /// The host's clock after the program had ended.
    pub time: Timestamp,
    /// Which program.
    pub program: Program,
    /// Whether more was printed before these lines.
    pub cut: bool,
    /// The lines, without blank ones.
    pub lines: Vec<Prose>,
}

wire_map!(Log, unknown keys Ignore:
    1 => version required,
    2 => host required,
    3 => profile required,
    4 => incarnation required,
    5 => attempt required,
    6 => target required,
    7 => time required,
    8 => program required,
    9 => cut required,
    10 => lines list,
);

impl Log {
    /// The most bytes that the lines have together, each with what its length takes.
    pub const MOST: usize = 8 * 1024;

    /// Takes the last lines out of an output, made safe to show, and tells whether there were more.
    pub fn last_lines(output: &[u8]) -> (Vec<Prose>, bool) {
        /// The head of a text of up to 1024 bytes.
        const HEAD: usize = 3;
        let mut room = Self::MOST;
        let mut lines = Vec::new();
        let printed =
            output.rsplit(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        for line in printed {
            let line = String::from_utf8_lossy(line);
            // The indentation stays; only the end is blank.
            let prose = Prose::lossy_line(line.trim_end());
            let size = prose.as_str().len() + HEAD;
            if size > room {
                lines.reverse();
                return (lines, true);
            }
            room -= size;
            lines.push(prose);
        }
        lines.reverse();
        (lines, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(output: &[u8]) -> (Vec<String>, bool) {
        let (lines, cut) = Log::last_lines(output);
        (lines.iter().map(|line| line.as_str().to_owned()).collect(), cut)
    }

    #[test]
    fn the_last_lines_are_kept_within_bounds_and_can_not_drive_a_terminal() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        assert_eq!(texts(b""), (vec![], false));
        assert_eq!(texts(b"\n \n\n"), (vec![], false));
        assert_eq!(texts(b"a\n\n  b \n"), (lines(&["a", "  b"]), false));
        assert_eq!(texts(b"\x1b[2Ja\xff"), (lines(&[" [2Ja\u{fffd}"]), false));
        let long = "x".repeat(5000);
        assert_eq!(texts(long.as_bytes()), (vec!["x".repeat(1024)], false));
        let many: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let (last, cut) = texts(many.as_bytes());
        assert!(cut && last.len() < 1000);
        assert_eq!(last.last().unwrap(), "line 9999");
        assert!(last.iter().map(|line| line.len() + 3).sum::<usize>() <= Log::MOST);
    }
}

//! What Nix says of its work in its form for programs (`--log-format internal-json`): a line for each
//! event, of which few matter here. Lines in another form are words for people.

use serde::Deserialize;

/// What stands before each event.
const MARK: &str = "@nix ";
/// The kind of activity in which a path is copied from a cache, and the result that is its progress
/// (`actCopyPath` and `resProgress` in Nix's logging.hh).
const COPY_PATH: u64 = 100;
const PROGRESS: u64 = 105;

/// Something that Nix says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Words for people, without colours.
    Words(String),
    /// It begins to copy a path.
    Copies { activity: u64, path: String },
    /// So many bytes of what something has, or is said to have, are done.
    Did { activity: u64, done: u64, expected: u64 },
    /// Something has ended.
    Ended { activity: u64 },
    /// Nothing that matters here.
    Else,
}

#[derive(Deserialize)]
struct Event {
    action: String,
    id: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<u64>,
    #[serde(default)]
    fields: Vec<serde_json::Value>,
    msg: Option<String>,
}

/// Reads a line.
pub(super) fn read(line: &str) -> Said {
    let Some(event) = line.strip_prefix(MARK) else { return Said::Words(without_colours(line)) };
    let Ok(event) = serde_json::from_str::<Event>(event) else { return Said::Else };
    let Event { action, id, kind, fields, msg } = event;
    let number = |at: usize| fields.get(at).and_then(serde_json::Value::as_u64);
    let text = |at: usize| fields.get(at).and_then(serde_json::Value::as_str);
    match (action.as_str(), id, kind) {
        ("msg", ..) => msg.map_or(Said::Else, |msg| Said::Words(without_colours(&msg))),
        ("stop", Some(activity), _) => Said::Ended { activity },
        ("start", Some(activity), Some(COPY_PATH)) => match text(0) {
            Some(path) => Said::Copies { activity, path: path.to_owned() },
            None => Said::Else,
        },
        ("result", Some(activity), Some(PROGRESS)) => match (number(0), number(1)) {
            (Some(done), Some(expected)) => Said::Did { activity, done, expected },
            _ => Said::Else,
        },
        _ => Said::Else,
    }
}

/// Leaves out the sequences by which terminals change colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_read_from_the_events_of_nix() {
        let words = |text: &str| Said::Words(text.to_owned());
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a";
        let copies = format!(
            r#"@nix {{"action":"start","fields":["{path}","file:///c","local"],"id":7,"level":3,"parent":0,"text":"copying path","type":100}}"#
        );
        let cases = [
            (copies.as_str(), Said::Copies { activity: 7, path: path.to_owned() }),
            (
                r#"@nix {"action":"result","fields":[300,120,0,0],"id":7,"type":105}"#,
                Said::Did { activity: 7, done: 300, expected: 120 },
            ),
            (r#"@nix {"action":"stop","id":7}"#, Said::Ended { activity: 7 }),
            (
                r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m no \u001b[35;1mroom\u001b[0m"}"#,
                words("error: no room"),
            ),
            ("these 3 paths will be fetched", words("these 3 paths will be fetched")),
            (r#"@nix {"action":"start","id":7,"level":6,"text":"querying","type":0}"#, Said::Else),
            (r#"@nix {"action":"result","fields":["x",1],"id":7,"type":105}"#, Said::Else),
            (r#"@nix {"action":"start","fields":[1],"id":7,"type":100}"#, Said::Else),
            (r#"@nix {"action":"#, Said::Else),
            (r#"@nix {"action":"result","fields":[-1,1e9],"id":7,"type":105}"#, Said::Else),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}

//! A page of the reference, and its tables.

use std::{env, fs, path::PathBuf};

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", "reference", name].iter().collect()
}

/// Reads a page.
pub(crate) fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks that a page says this, or has it say so where that is asked for.
pub(crate) fn check(name: &str, text: &str) {
    if env::var_os("HERALD_BLESS").is_some() {
        fs::write(path(name), text).unwrap();
    }
    let written = read(name);
    let different =
        written.lines().zip(text.lines()).enumerate().find(|(_, (old, new))| old != new);
    if let Some((number, (old, new))) = different {
        panic!(
            "docs/reference/{name} is not what the programs say; HERALD_BLESS=1 writes it anew\n\
             line {}\n  written  {old}\n  now      {new}",
            number + 1
        );
    }
    assert_eq!(
        written, text,
        "docs/reference/{name} ends otherwise; HERALD_BLESS=1 writes it anew"
    );
}

/// Gives the cells of every row of a page's tables, with the heading above it; no heads of tables.
pub(crate) fn rows(text: &str) -> Vec<(String, Vec<String>)> {
    let mut rows = Vec::new();
    let mut heading = String::new();
    let lines: Vec<_> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        }
        let is_head = lines.get(at + 1).is_some_and(|next| next.starts_with("|-"));
        if line.starts_with('|') && !line.starts_with("|-") && !is_head {
            rows.push((heading.clone(), cells(line)));
        }
    }
    rows
}

/// Writes a text so that it can stand in a table.
pub(crate) fn cell(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("|", "\\|");
    // What is in backticks is shown as it is.
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(at, it)| if at % 2 == 0 { it.replace('<', "&lt;") } else { it.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim_matches('|').replace("\\|", "\0");
    line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

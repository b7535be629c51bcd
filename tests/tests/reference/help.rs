//! What a program says with `--help`, taken apart.

use std::process::Command;

use herald_tests::binary;

/// The help of a program, or of one of its commands.
pub(crate) struct Help {
    pub(crate) about: Vec<String>,
    pub(crate) usage: String,
    pub(crate) sections: Vec<Section>,
    /// What follows the sections.
    pub(crate) end: Vec<String>,
}

/// What stands under a word and a colon.
pub(crate) struct Section {
    pub(crate) title: String,
    /// What is listed, such as an option with its value, and what it means.
    pub(crate) items: Vec<(String, String)>,
}

impl Help {
    /// Asks a program.
    pub(crate) fn of(program: &str, commands: &[&str]) -> Self {
        let mut command = Command::new(binary(program));
        command.args(commands).arg("--help").env_clear();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        Self::parse(&String::from_utf8(output.stdout).unwrap())
    }

    fn parse(text: &str) -> Self {
        let mut help =
            Self { about: Vec::new(), usage: String::new(), sections: Vec::new(), end: Vec::new() };
        let (mut is_listed, mut goes_on) = (false, false);
        for line in text.lines() {
            let title = line.strip_suffix(':').filter(|title| title.len() < 24);
            let indent = line.len() - line.trim_start().len();
            let has_usage = !help.usage.is_empty();
            if let Some(usage) = line.strip_prefix("Usage: ") {
                help.usage = usage.to_owned();
            } else if line.is_empty() {
                goes_on = false;
            } else if let (0, true, Some(title)) = (indent, has_usage, title) {
                help.sections.push(Section { title: title.to_owned(), items: Vec::new() });
                is_listed = true;
            } else if indent > 0 && is_listed {
                help.sections.last_mut().unwrap().take(line, indent);
            } else if indent > 0 {
                help.usage = format!("{}\n    {}", help.usage, line.trim_start());
            } else {
                is_listed = false;
                let paragraphs = if has_usage { &mut help.end } else { &mut help.about };
                match paragraphs.last_mut() {
                    Some(paragraph) if goes_on => *paragraph = format!("{paragraph} {line}"),
                    _ => paragraphs.push(line.to_owned()),
                }
                goes_on = true;
            }
        }
        assert!(!help.usage.is_empty(), "{text}");
        help
    }

    /// Gives what stands under a title.
    pub(crate) fn section(&self, title: &str) -> &[(String, String)] {
        let found = self.sections.iter().find(|section| section.title == title);
        found.map(|section| &*section.items).unwrap_or_default()
    }

    /// Gives the names of the commands that can follow, but `help`.
    pub(crate) fn commands(&self) -> Vec<String> {
        let names = self.section("Commands").iter().map(|(name, _)| name.clone());
        names.filter(|name| name != "help").collect()
    }
}

impl Section {
    fn take(&mut self, line: &str, indent: usize) {
        let text = line.trim();
        // What clap says of an item begins here where the item's name is long.
        if indent >= 10 {
            let (_, meaning) = self.items.last_mut().unwrap();
            if !meaning.is_empty() {
                meaning.push_str(if text.starts_with("- ") { "<br>" } else { " " });
            }
            meaning.push_str(text);
            return;
        }
        let (name, meaning) = text.split_once("  ").unwrap_or((text, ""));
        self.items.push((name.trim().to_owned(), meaning.trim().to_owned()));
    }
}

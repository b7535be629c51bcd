//! The pages of commands, of exit codes, and what all programs have in common.

use std::fmt::Write as _;

use super::{
    help::{Help, Section},
    page::{self, cell},
};

const PROGRAMS: [&str; 3] = ["herald", "herald-subscriber", "herald-broker"];

#[test]
fn every_command_and_option_is_in_the_reference_as_its_help_has_it() {
    for program in PROGRAMS {
        let help = Help::of(program, &[]);
        let mut text = format!(
            "# Commands of `{program}`\n\nWritten from its help by `tests/tests/reference`; do not \
             edit. [exit-codes.md](exit-codes.md) has what it ends with.\n\n"
        );
        text += &about(&help);
        let shared: Vec<_> = help.sections.iter().flat_map(|section| &section.items).collect();
        let shared: Vec<_> = shared.into_iter().map(|(name, _)| name.clone()).collect();
        for Section { title, items } in &help.sections {
            text += &match &**title {
                "Commands" | "Exit codes" => continue,
                title => table(title, items),
            };
        }
        let first = help.commands();
        let first = Help::of(program, &[&first[0]]);
        let of_first: Vec<_> = first.sections.iter().flat_map(|section| &section.items).collect();
        let everywhere = |name: &&String| of_first.iter().any(|(other, _)| other == *name);
        let everywhere = shared.iter().filter(everywhere).map(|name| format!("`{name}`"));
        let everywhere: Vec<_> = everywhere.collect();
        write!(text, "Every command takes {} too.\n\n", everywhere.join(", ")).unwrap();
        let paragraphs = help.end.iter().filter(|paragraph| !paragraph.starts_with("Of several"));
        for paragraph in paragraphs {
            write!(text, "{}\n\n", cell(paragraph)).unwrap();
        }
        each_command(program, &[], &help, &shared, &mut text);
        page::check(&format!("{program}.md"), &format!("{}\n", text.trim_end()));
    }
}

#[test]
fn every_exit_code_is_in_the_reference_as_the_help_has_it() {
    let mut text =
        "# Exit codes\n\nWritten from the programs' help by `tests/tests/reference`; do \
                    not edit.\n\n"
            .to_owned();
    for program in PROGRAMS {
        let help = Help::of(program, &[]);
        let codes = help.section("Exit codes");
        assert!(codes.len() > 3, "{program}");
        write!(text, "## `{program}`\n\n| code | when |\n|---|---|\n").unwrap();
        for (code, meaning) in codes {
            writeln!(text, "| {code} | {} |", cell(meaning)).unwrap();
        }
        text.push('\n');
        let counts = help.end.iter().filter(|paragraph| paragraph.starts_with("Of several"));
        for paragraph in counts {
            write!(text, "{paragraph}\n\n").unwrap();
        }
    }
    page::check("exit-codes.md", &format!("{}\n", text.trim_end()));
}

#[test]
fn every_program_prints_completions_that_know_its_commands() {
    for program in PROGRAMS {
        for shell in ["bash", "fish", "zsh"] {
            let mut command = std::process::Command::new(herald_tests::binary(program));
            let output = command.args(["completions", shell]).output().unwrap();
            let script = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && script.contains(program), "{program} {shell}");
            for name in Help::of(program, &[]).commands() {
                assert!(script.contains(&name), "{program} {shell}: {name}");
            }
        }
    }
}

fn each_command(program: &str, above: &[&str], help: &Help, shared: &[String], text: &mut String) {
    for name in help.commands() {
        let path: Vec<_> = above.iter().copied().chain([&*name]).collect();
        let help = Help::of(program, &path);
        write!(text, "## `{program} {}`\n\n{}", path.join(" "), about(&help)).unwrap();
        for Section { title, items } in &help.sections {
            if title == "Commands" || title == "Exit codes" {
                continue;
            }
            let own =
                |(name, _): &&(String, String)| !shared.contains(name) && name != "-h, --help";
            let own: Vec<_> = items.iter().filter(own).cloned().collect();
            if !own.is_empty() {
                *text += &table(title, &own);
            }
        }
        each_command(program, &path, &help, shared, text);
    }
}

fn about(help: &Help) -> String {
    let mut text = String::new();
    for paragraph in &help.about {
        write!(text, "{}\n\n", cell(paragraph)).unwrap();
    }
    write!(text, "    {}\n\n", help.usage).unwrap();
    let commands = help.section("Commands");
    if !commands.is_empty() {
        text += "| command | does |\n|---|---|\n";
        for (name, does) in commands.iter().filter(|(name, _)| name != "help") {
            let program = help.usage.split(" [").next().unwrap_or_default();
            let program = program.split(" <").next().unwrap_or_default();
            let anchor = format!("{program} {name}").replace(' ', "-");
            writeln!(text, "| [`{name}`](#{anchor}) | {} |", cell(does)).unwrap();
        }
        text.push('\n');
    }
    text
}

fn table(title: &str, items: &[(String, String)]) -> String {
    let mut text = format!("| {} | meaning |\n|---|---|\n", title.to_lowercase());
    // The one default that is another on another machine.
    let system = format!("[default: {}-{}]", std::env::consts::ARCH, std::env::consts::OS);
    for (name, meaning) in items {
        let meaning = cell(&meaning.replace(&system, "[default: this machine's]"));
        let meaning = meaning.replace("&lt;br>", "<br>").replace("=]", "]");
        writeln!(text, "| `{}` | {meaning} |", name.replace('|', "\\|")).unwrap();
    }
    text.push('\n');
    text
}

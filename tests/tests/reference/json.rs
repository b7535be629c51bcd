//! The page of what programs print with `--json`, written from the schema that their tests are held to.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;

use super::page::{self, cell};

const HEAD: &str = "\
# What `--json` prints

Written from [json.schema.json](json.schema.json) (JSON Schema 2020-12) by `tests/tests/reference`; do not edit.
The programs' tests are held to that schema.

Each command prints one object on a line; `listen` prints many. Fields are added from version to version and
never renamed or taken away, so let your program pass over what it does not know. What has no value is null and
not left out. Times are milliseconds since 1970 and spans are milliseconds, with `_ms` in the name. Phases and
codes are in [codes.md](codes.md). Words for people go to stderr, and the [exit code](exit-codes.md) counts.
";

#[test]
fn every_field_of_json_is_in_the_reference() {
    let schema: Value = serde_json::from_str(&page::read("json.schema.json")).unwrap();
    let shapes = schema["anyOf"].as_array().unwrap().iter().map(name);
    let shapes: Vec<_> = shapes.collect();
    let defs = schema["$defs"].as_object().unwrap();
    let mut text = HEAD.to_owned();
    for shape in &shapes {
        write!(
            text,
            "\n## {}\n\n{}",
            defs[*shape]["description"].as_str().unwrap(),
            fields(&defs[*shape])
        )
        .unwrap();
    }
    text += "\n## Parts\n";
    let mut used = BTreeSet::new();
    defs.values().for_each(|def| references(def, &mut used));
    for (part, def) in defs.iter().filter(|(part, _)| !shapes.contains(&part.as_str())) {
        assert!(used.contains(&**part), "nothing has the part {part}");
        let about = def["description"].as_str().unwrap();
        write!(text, "\n### {}\n\n{}.\n\n", title(part), cell(about)).unwrap();
        match def["oneOf"].as_array() {
            None => text += &fields(def),
            Some(kinds) => {
                for kind in kinds {
                    let about = kind["description"].as_str().unwrap();
                    write!(text, "{}:\n\n{}\n", cell(about), fields(kind)).unwrap();
                }
            }
        }
    }
    page::check("json.md", &format!("{}\n", text.trim_end()));
}

fn fields(def: &Value) -> String {
    let mut text = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    // As they stand in the schema: serde_json's maps are in the order of names.
    for field in def["required"].as_array().unwrap() {
        let field = field.as_str().unwrap();
        let rule = &def["properties"][field];
        let meaning = rule["description"].as_str().unwrap_or_default();
        writeln!(text, "| `{field}` | {} | {} |", kind(rule), cell(meaning)).unwrap();
    }
    text
}

/// Says what a value may be.
fn kind(rule: &Value) -> String {
    if let Some(values) = rule["enum"].as_array() {
        let values = values.iter().map(|value| match value.as_str() {
            Some(text) => format!("`{text}`"),
            None => value.to_string(),
        });
        return values.collect::<Vec<_>>().join(", ");
    }
    if let Some(kinds) = rule["oneOf"].as_array() {
        return kinds.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if rule.get("$ref").is_some() {
        let title = title(name(rule));
        return format!("[{title}](#{})", title.replace(' ', "-"));
    }
    let kinds = match &rule["type"] {
        Value::Array(kinds) => kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        kind => vec![kind.as_str().unwrap()],
    };
    let of = |kind: &str| match kind {
        "array" => format!("list of {}", self::kind(&rule["items"])),
        other => other.to_owned(),
    };
    kinds.into_iter().map(of).collect::<Vec<_>>().join(" or ")
}

fn references<'a>(rule: &'a Value, used: &mut BTreeSet<&'a str>) {
    match rule {
        Value::Object(members) => {
            if rule.get("$ref").is_some() {
                used.insert(name(rule));
            }
            members.values().for_each(|member| references(member, used));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, used)),
        _ => {}
    }
}

fn name(reference: &Value) -> &str {
    reference["$ref"].as_str().unwrap().strip_prefix("#/$defs/").unwrap()
}

fn title(part: &str) -> String {
    part.replace('_', " ")
}

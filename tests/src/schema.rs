//! Whether what a program printed with `--json` is what `docs/reference/json.schema.json` says.
//!
//! It knows as much of JSON Schema (2020-12) as that file uses. A keyword that it does not know ends
//! the test: nothing passes because it was not understood.

use serde_json::{Map, Value};

/// Checks that a document has one of the documented shapes, and gives it back.
///
/// # Panics
/// When it has none; says where it differs from the one that it is most like.
#[track_caller]
pub fn documented(document: Value) -> Value {
    let schema: Value = serde_json::from_str(include_str!("../../docs/reference/json.schema.json"))
        .expect("the schema is JSON");
    let shapes = list(&schema["anyOf"]);
    let tried = shapes.iter().map(|shape| (shape, problems(&schema, shape, &document, "")));
    let (shape, problems) = tried.min_by_key(|(_, problems)| distance(problems)).expect("shapes");
    assert!(problems.is_empty(), "{document}\nis no {shape}: {}", problems.join("; "));
    document
}

/// Tells how unlike a shape is: first by what is wrong at the top, then by all.
fn distance(problems: &[String]) -> (usize, usize) {
    let at_top = |problem: &&String| {
        let place = problem.split(' ').next().unwrap_or_default();
        place.matches(['.', '[']).count() < 2
    };
    (problems.iter().filter(at_top).count(), problems.len())
}

/// Gives all that is wrong with a value.
fn problems(whole: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let rules = schema.as_object().expect("a schema is an object");
    let mut found = Vec::new();
    for (keyword, rule) in rules {
        match &**keyword {
            "$ref" => found.extend(problems(whole, definition(whole, rule), value, place)),
            "type" if !is_of(rule, value) => found.push(format!("{place} is {value}, not {rule}")),
            "enum" if !list(rule).contains(value) => {
                found.push(format!("{place} is {value}, not one of {rule}"));
            }
            "oneOf" => {
                let fits = |one: &&Value| problems(whole, one, value, place).is_empty();
                if list(rule).iter().filter(fits).count() != 1 {
                    found.push(format!("{place} is {value}, which is not one of its kinds"));
                }
            }
            "required" => {
                let has = |name: &&Value| value.get(name.as_str().unwrap_or_default()).is_none();
                let missing = list(rule).iter().filter(has);
                found.extend(missing.map(|name| format!("{place} has no {name}")));
            }
            "properties" | "additionalProperties" | "items" | "description" => {}
            "type" | "enum" => {}
            other => panic!("the schema has {other}, which is not looked at"),
        }
    }
    let none = Map::new();
    let properties = rules.get("properties").map_or(&none, |rule| {
        assert_eq!(rules.get("additionalProperties"), Some(&Value::Bool(false)), "{place}");
        rule.as_object().expect("properties are an object")
    });
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{place}.{name}");
                match properties.get(name) {
                    Some(rule) => found.extend(problems(whole, rule, member, &place)),
                    None if rules.contains_key("properties") => {
                        found.push(format!("{place} is not documented"));
                    }
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            let rule = rules.get("items");
            for (at, item) in items.iter().enumerate() {
                let place = format!("{place}[{at}]");
                found.extend(rule.iter().flat_map(|rule| problems(whole, rule, item, &place)));
            }
        }
        _ => {}
    }
    found
}

fn is_of(rule: &Value, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    rule == name || rule.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().expect("the rule is a list")
}

fn definition<'a>(whole: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
    whole
        .pointer(pointer.expect("a reference begins with #"))
        .expect("what is referred to is there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(document: Value) -> String {
        let refused = std::panic::catch_unwind(|| documented(document)).unwrap_err();
        refused.downcast_ref::<String>().expect("a panic with words").clone()
    }

    #[test]
    fn only_what_is_documented_passes() {
        let manifest = json!({"toplevel": "/t", "manifest": "/m", "closure_digest": "0"});
        documented(json!({"manifests": [manifest, manifest]}));
        for (document, expected) in [
            (json!({"manifests": [{"toplevel": "/t", "manifest": "/m"}]}), "closure_digest"),
            (json!({"manifests": [], "more": 1}), ".more is not documented"),
            (json!({"manifests": "none"}), "not \"array\""),
            (json!({"verified": false, "code": "x", "detail": null}), ".detail is null"),
            (json!({"fleet": "home", "hosts": [{"host": "a"}]}), ".hosts[0]"),
            (json!([]), "[]"),
        ] {
            let said = refused(document);
            assert!(said.contains(expected), "{said}");
        }
    }
}

//! Names: topics, filters, store paths, and those of hosts, profiles and units.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use herald_proto::{
    host::{FleetId, HostId, ProfileName, System, UnitName},
    http::HttpCheck,
    store_path::StorePath,
    text::Prose,
    topic::{Filter, Topic},
};

/// Topics, and the other texts that stand in messages.
///
/// # Panics
/// Where a promise is broken.
pub fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(topic) = as_read::<Topic>(text) {
        safe(text);
        assert!(text.matches('/').count() <= 7 && text.len() <= 256, "{text}");
        let filters: Vec<_> = topic.filters().collect();
        assert!(filters.iter().all(|filter| filter.matches(&topic)), "{text}");
        let mut shown = Vec::new();
        topic.each_filter_text(&mut String::new(), |filter| shown.push(filter.to_owned()));
        let expected: Vec<_> = filters.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }
    if let Some(filter) = as_read::<Filter>(text) {
        assert!(text.bytes().all(|c| c != b'#' && c != 0), "{text}");
        if let Filter::Exactly(topic) = &filter {
            assert_eq!(topic.to_string(), text);
        }
    }
    if let Some(path) = as_read::<StorePath>(text) {
        assert_eq!(format!("{}/{}", path.store_dir(), path.base_name()), text);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(path.as_path().components().skip(1).all(plain), "{text}");
        assert!(path.base_name().ends_with(path.name()) && !path.name().starts_with('.'), "{text}");
    }
    if as_read::<HostId>(text).is_some() {
        safe(text);
        assert!(!text.starts_with('-') && !text.ends_with('-'), "{text}");
    }
    for known in [as_read::<FleetId>(text).is_some(), as_read::<ProfileName>(text).is_some()] {
        assert!(!known || !text.contains('/'), "{text}");
    }
    if as_read::<UnitName>(text).is_some() {
        assert!(!text.starts_with('-') || text.starts_with("-."), "an option: {text}");
    }
    as_read::<System>(text);
    as_read::<Prose>(text);
    assert!(Prose::lossy(text).as_str().parse::<Prose>().is_ok());
    if let Ok(check) = text.parse::<HttpCheck>() {
        let again: HttpCheck = check.to_string().parse().expect("a check is read as it is shown");
        assert_eq!(again, check);
    }
}

/// Reads a text that must show as it was read.
fn as_read<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let read: T = text.parse().ok()?;
    assert_eq!(read.to_string(), text);
    assert_eq!(text.parse::<T>().expect("it was read before"), read);
    Some(read)
}

/// Checks that a topic, or a level of one, has nothing that a broker would understand.
fn safe(text: &str) {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"/_-".contains(&c);
    assert!(text.bytes().all(plain), "{text}");
}

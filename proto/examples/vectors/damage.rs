//! Faults at each level: in a value, in its encoding, and in the bytes.

use ciborium::Value;

use crate::random::Random;

/// Characters that mean something in one of the texts.
const CHARACTERS: &str = "a0-_./:%@[]\\~ \n\t\0\u{7f}\u{85}é\u{202e}\u{2066}Aé=?#+&e\u{1f600}";
const NUMBERS: &[u64] =
    &[0, 1, 2, 23, 24, 99, 255, 256, 599, 60_000, 60_001, 65_535, 65_536, 1 << 32, u64::MAX];

/// Changes one item somewhere in a value.
pub(crate) fn value(whole: &mut Value, random: &mut Random) {
    let at = random.below(items(whole));
    if let Some(item) = nth(whole, &mut { at }) {
        change(item, random);
    }
}

fn items(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(items).sum(),
        Value::Map(map) => map.iter().map(|(_, value)| items(value)).sum(),
        Value::Tag(_, inner) => items(inner),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|item| nth(item, left)),
        Value::Map(map) => map.iter_mut().find_map(|(_, item)| nth(item, left)),
        Value::Tag(_, inner) => nth(inner, left),
        _ => None,
    }
}

fn change(item: &mut Value, random: &mut Random) {
    if random.once_in(5) {
        *item = another(item.clone(), random);
        return;
    }
    match item {
        Value::Integer(_) => *item = number(random),
        Value::Bytes(bytes) => bytes_of(bytes, random),
        Value::Text(text) => *text = text_of(text, random),
        Value::Array(list) => list_of(list, random),
        Value::Map(map) => map_of(map, random),
        Value::Bool(yes) => *yes = !*yes,
        other => *other = number(random),
    }
}

fn number(random: &mut Random) -> Value {
    match random.below(4) {
        0 => Value::from(random.number()),
        1 => Value::from(-1 - (random.number() >> 1).cast_signed()),
        _ => Value::from(random.of(NUMBERS)),
    }
}

/// Something else in the place of an item.
fn another(item: Value, random: &mut Random) -> Value {
    match random.below(10) {
        0 => Value::Null,
        1 => Value::Float(1.0),
        2 => Value::Bool(random.once_in(2)),
        3 => Value::Tag(random.of(&[1, 2, 18, 98, 258]), Box::new(item)),
        4 => Value::Array(vec![item]),
        5 => Value::Array(vec![]),
        6 => Value::Map(vec![]),
        7 => Value::Text(String::new()),
        8 => (0..random.below(16)).fold(item, |inner, _| Value::Array(vec![inner])),
        _ => number(random),
    }
}

fn bytes_of(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(4) {
        0 => bytes.push(0),
        1 => drop(bytes.pop()),
        2 => bytes.clear(),
        _ if bytes.is_empty() => bytes.push(1),
        _ => bytes[at] ^= 1 << random.below(8),
    }
}

fn text_of(text: &str, random: &mut Random) -> String {
    let mut all: Vec<char> = text.chars().collect();
    let known: Vec<char> = CHARACTERS.chars().collect();
    let at = random.below(all.len() + 1);
    match random.below(7) {
        0 => all.insert(at, random.of(&known)),
        1 | 2 if at < all.len() => all[at] = random.of(&known),
        3 if at < all.len() => drop(all.remove(at)),
        4 => all.truncate(at),
        5 => all = all.repeat(1 + random.below(60)),
        _ => all.insert(at, random.of(&['a', '0', '-', '.', '/'])),
    }
    all.into_iter().collect()
}

fn list_of(list: &mut Vec<Value>, random: &mut Random) {
    let at = random.below(list.len());
    match random.below(4) {
        0 if at < list.len() => drop(list.remove(at)),
        1 if at < list.len() => list.insert(at, list[at].clone()),
        2 => list.reverse(),
        _ => list.push(number(random)),
    }
}

fn map_of(map: &mut Vec<(Value, Value)>, random: &mut Random) {
    let at = random.below(map.len());
    match random.below(7) {
        0 if at < map.len() => drop(map.remove(at)),
        1 if at < map.len() => map.insert(at, map[at].clone()),
        2 if at < map.len() => map.swap(0, at),
        3 if at < map.len() => map[at].0 = key(random),
        // Where it belongs in the order, so that nothing but the key is wrong.
        4 if at < map.len() => {
            map[at].0 = key(random);
            map.sort_by_key(|(key, _)| encoded(key));
        }
        5 => map.push((key(random), number(random))),
        _ => map.push((random.of(NUMBERS).into(), Value::from(0))),
    }
}

fn key(random: &mut Random) -> Value {
    let keys = [true.into(), false.into(), "x".into(), Value::Bytes(vec![1]), Value::Float(1.0)];
    if random.once_in(2) { random.of(&keys) } else { number(random) }
}

pub(crate) fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = vec![];
    ciborium::into_writer(value, &mut bytes).expect("writing to memory can't fail");
    bytes
}

/// Encodes a value with one item in a form that is not the shortest.
pub(crate) fn long_form(value: &Value, random: &mut Random) -> Vec<u8> {
    let mut left = Some(random.below(items(value)));
    let mut bytes = vec![];
    write(value, &mut left, random, &mut bytes);
    bytes
}

fn write(value: &Value, left: &mut Option<usize>, random: &mut Random, to: &mut Vec<u8>) {
    let here = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    let wide = |major: u8, number: u64, random: &mut Random, to: &mut Vec<u8>| {
        let size = if here { random.below(4) } else { 4 };
        let bytes = number.to_be_bytes();
        match size {
            0 if number < 1 << 8 => to.extend([&[major << 5 | 24][..], &bytes[7..]].concat()),
            1 if number < 1 << 16 => to.extend([&[major << 5 | 25][..], &bytes[6..]].concat()),
            2 if number < 1 << 32 => to.extend([&[major << 5 | 26][..], &bytes[4..]].concat()),
            0..=3 => to.extend([&[major << 5 | 27][..], &bytes].concat()),
            _ => {
                let mut head = encoded(&Value::from(number));
                head[0] |= major << 5;
                to.extend(head);
            }
        }
    };
    let indefinite = here && random.once_in(2);
    match value {
        Value::Integer(number) if u64::try_from(*number).is_ok() => {
            wide(0, u64::try_from(*number).unwrap_or_default(), random, to);
        }
        Value::Bytes(_) if indefinite => {
            to.extend([&[0x5f][..], &encoded(value), &[0xff]].concat());
        }
        Value::Bytes(bytes) => {
            wide(2, bytes.len() as u64, random, to);
            to.extend(bytes);
        }
        Value::Text(_) if indefinite => {
            to.extend([&[0x7f][..], &encoded(value), &[0xff]].concat());
        }
        Value::Text(text) => {
            wide(3, text.len() as u64, random, to);
            to.extend(text.as_bytes());
        }
        Value::Array(list) => {
            if indefinite {
                to.push(0x9f)
            } else {
                wide(4, list.len() as u64, random, to)
            }
            list.iter().for_each(|item| write(item, left, random, to));
            to.extend(indefinite.then_some(0xff));
        }
        Value::Map(map) => {
            if indefinite {
                to.push(0xbf)
            } else {
                wide(5, map.len() as u64, random, to)
            }
            for (key, item) in map {
                to.extend(encoded(key));
                write(item, left, random, to);
            }
            to.extend(indefinite.then_some(0xff));
        }
        Value::Tag(tag, inner) => {
            wide(6, *tag, random, to);
            write(inner, left, random, to);
        }
        other => to.extend(encoded(other)),
    }
}

/// Flips, cuts, repeats or replaces bytes.
pub(crate) fn bytes(whole: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(whole.len());
    let length = random.below(whole.len() - at).min(40);
    match random.below(7) {
        0 | 1 if !whole.is_empty() => whole[at] ^= 1 << random.below(8),
        2 => whole.truncate(at),
        3 => drop(whole.drain(at..at + length)),
        4 => {
            let again = whole[at..at + length].to_vec();
            whole.splice(at..at, again);
        }
        5 => whole.push(random.of(&[0, 0xf6, 0xff])),
        _ if !whole.is_empty() => whole[at] = (random.number() >> 40) as u8,
        _ => whole.push(0),
    }
}

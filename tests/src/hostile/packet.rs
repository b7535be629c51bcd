//! The packets of MQTT 3.1.1 that a broker reads and writes.

use std::{io, net::TcpStream};

use super::broker::exactly;

/// The largest packet that is read.
const MAX_PACKET: usize = 1 << 20;

/// What a client says of itself.
pub(super) struct Connect {
    pub(super) client: String,
    pub(super) will: Option<(String, Vec<u8>)>,
}

/// A message from a client.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) retain: bool,
    pub(super) id: Option<[u8; 2]>,
}

/// Reads one packet: its first byte and its body. None if it is too large.
pub(super) fn read(stream: &mut TcpStream) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut byte = [0];
    exactly(stream, &mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        exactly(stream, &mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return Ok(None);
        }
    }
    if length > MAX_PACKET {
        return Ok(None);
    }
    let mut body = vec![0; length];
    exactly(stream, &mut body)?;
    Ok(Some((first, body)))
}

impl Connect {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let flags = *body.get(7)?;
        let mut rest = body.get(10..)?;
        let client = String::from_utf8(field(&mut rest)?.to_vec()).ok()?;
        let will = if flags & 4 == 0 {
            None
        } else {
            let topic = String::from_utf8(field(&mut rest)?.to_vec()).ok()?;
            Some((topic, field(&mut rest)?.to_vec()))
        };
        Some(Self { client, will })
    }
}

impl Message {
    pub(super) fn read(first: u8, body: &[u8]) -> Option<Self> {
        let mut rest = body;
        let topic = String::from_utf8(field(&mut rest)?.to_vec()).ok()?;
        let id = if first & 6 == 0 {
            None
        } else {
            let (id, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(*id)
        };
        Some(Self { topic, payload: rest.to_vec(), retain: first & 1 == 1, id })
    }
}

/// Reads SUBSCRIBE: its number and its filters.
pub(super) fn filters(body: &[u8]) -> Option<([u8; 2], Vec<String>)> {
    let (number, mut rest) = body.split_first_chunk()?;
    let mut filters = Vec::new();
    while !rest.is_empty() {
        filters.push(String::from_utf8(field(&mut rest)?.to_vec()).ok()?);
        rest = rest.get(1..)?;
    }
    (filters.len() < 120).then_some((*number, filters))
}

/// Tells whether a filter names a topic.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Writes PUBLISH with QoS 1.
pub(super) fn publish(topic: &str, payload: &[u8], retain: bool, id: u16) -> Vec<u8> {
    let mut out = vec![0x32 | u8::from(retain)];
    let mut length = 2 + topic.len() + 2 + payload.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend((topic.len() as u16).to_be_bytes());
    out.extend(topic.as_bytes());
    out.extend(id.to_be_bytes());
    out.extend(payload);
    out
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (field, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = behind;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn filters_name_topics_as_in_the_standard() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/+", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("+/b", "a/c", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} and {topic}");
        }
    }
}

//! The few packets of MQTT 3.1.1 that a host and its operator exchange with a broker.
//!
//! Written apart from the broker's own codec, so that the two can disagree. Packets are appended to
//! a buffer of bytes and read from one without copying; what this does not know is malformed.

/// The largest packet that is read.
const MAX_PACKET: usize = 1 << 20;

/// A packet from the broker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming<'a> {
    /// The answer to CONNECT.
    ConnAck { session_present: bool, code: u8 },
    /// A message.
    Publish { topic: &'a str, payload: &'a [u8], qos: u8, retain: bool, id: u16 },
    /// The answer to PUBLISH.
    PubAck { id: u16 },
    /// The answer to SUBSCRIBE: a code for each filter.
    SubAck { id: u16, codes: &'a [u8] },
    /// The answer to UNSUBSCRIBE.
    UnsubAck { id: u16 },
    /// The answer to PINGREQ.
    PingResp,
}

/// Bytes that are no packet that a broker sends to these clients.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet that starts with {first:#04x} is malformed: {reason}")]
pub(crate) struct Malformed {
    first: u8,
    reason: &'static str,
}

/// Reads the first packet of `bytes`, and gives it with its length; none while it is incomplete.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Incoming<'_>, usize)>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let bad = |reason| Malformed { first, reason };
    let (mut length, mut header) = (0, 1);
    loop {
        let Some(&byte) = rest.get(header - 1) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if header > 4 {
            return Err(bad("its length has more than four bytes"));
        }
    }
    if length > MAX_PACKET {
        return Err(bad("it is longer than a mebibyte"));
    }
    let Some(body) = bytes.get(header..header + length) else { return Ok(None) };
    let packet = match first {
        0x20 => match *body {
            [flags @ (0 | 1), code] => Incoming::ConnAck { session_present: flags == 1, code },
            _ => return Err(bad("CONNACK has two bytes")),
        },
        0x30..=0x3f => read_publish(first, body).map_err(bad)?,
        0x40 => Incoming::PubAck { id: only_id(body).map_err(bad)? },
        0x90 => match body {
            [high, low, codes @ ..] if !codes.is_empty() => {
                Incoming::SubAck { id: u16::from_be_bytes([*high, *low]), codes }
            }
            _ => return Err(bad("SUBACK has an id and codes")),
        },
        0xb0 => Incoming::UnsubAck { id: only_id(body).map_err(bad)? },
        0xd0 if body.is_empty() => Incoming::PingResp,
        _ => return Err(bad("no broker sends such a packet")),
    };
    Ok(Some((packet, header + length)))
}

fn read_publish(first: u8, body: &[u8]) -> Result<Incoming<'_>, &'static str> {
    let qos = (first >> 1) & 3;
    if qos > 1 {
        return Err("no message is subscribed to with QoS 2");
    }
    let (length, rest) = body.split_first_chunk().ok_or("it has no topic")?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (topic, rest) = rest.split_at_checked(length).ok_or("its topic is cut off")?;
    let topic = std::str::from_utf8(topic).map_err(|_| "its topic is not UTF-8")?;
    let (id, payload) = match qos {
        0 => (0, rest),
        _ => {
            let (id, payload) = rest.split_first_chunk().ok_or("it has no id")?;
            (u16::from_be_bytes(*id), payload)
        }
    };
    if qos == 1 && id == 0 {
        return Err("its id is zero");
    }
    Ok(Incoming::Publish { topic, payload, qos, retain: first & 1 == 1, id })
}

fn only_id(body: &[u8]) -> Result<u16, &'static str> {
    body.try_into().map(u16::from_be_bytes).map_err(|_| "it has an id and nothing else")
}

/// Writes CONNECT without a will or a login.
pub(crate) fn connect(out: &mut Vec<u8>, client: &str, clean: bool, keep_alive: u16) {
    start(out, 0x10, 10 + 2 + client.len());
    out.extend(b"\0\x04MQTT\x04");
    out.push(if clean { 2 } else { 0 });
    out.extend(keep_alive.to_be_bytes());
    text(out, client);
}

/// Writes a PUBLISH with QoS 1.
pub(crate) fn publish(out: &mut Vec<u8>, topic: &str, payload: &[u8], retain: bool, id: u16) {
    start(out, 0x32 | u8::from(retain), 2 + topic.len() + 2 + payload.len());
    text(out, topic);
    out.extend(id.to_be_bytes());
    out.extend(payload);
}

/// Writes PUBACK.
pub(crate) fn puback(out: &mut Vec<u8>, id: u16) {
    start(out, 0x40, 2);
    out.extend(id.to_be_bytes());
}

/// Writes SUBSCRIBE with QoS 1 for each filter.
pub(crate) fn subscribe(out: &mut Vec<u8>, filters: &[impl AsRef<str>], id: u16) {
    start(out, 0x82, 2 + filters.iter().map(|one| 2 + one.as_ref().len() + 1).sum::<usize>());
    out.extend(id.to_be_bytes());
    for filter in filters {
        text(out, filter.as_ref());
        out.push(1);
    }
}

/// Writes UNSUBSCRIBE.
pub(crate) fn unsubscribe(out: &mut Vec<u8>, filter: &str, id: u16) {
    start(out, 0xa2, 2 + 2 + filter.len());
    out.extend(id.to_be_bytes());
    text(out, filter);
}

/// Writes PINGREQ.
pub(crate) fn ping(out: &mut Vec<u8>) {
    start(out, 0xc0, 0);
}

/// Writes DISCONNECT.
pub(crate) fn disconnect(out: &mut Vec<u8>) {
    start(out, 0xe0, 0);
}

fn start(out: &mut Vec<u8>, first: u8, mut length: usize) {
    out.push(first);
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names and topics here are short");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn packets_are_written_as_the_standard_lays_them_out() {
        assert_eq!(
            written(|out| connect(out, "ab", true, 60)),
            b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02ab"
        );
        assert_eq!(
            written(|out| subscribe(out, &["a/b", "c"], 7)),
            b"\x82\x0c\0\x07\0\x03a/b\x01\0\x01c\x01"
        );
        assert_eq!(written(|out| unsubscribe(out, "a", 8)), b"\xa2\x05\0\x08\0\x01a");
        assert_eq!(written(|out| publish(out, "t", b"xy", true, 9)), b"\x33\x07\0\x01t\0\x09xy");
        assert_eq!(written(|out| puback(out, 258)), b"\x40\x02\x01\x02");
        assert_eq!(written(ping), b"\xc0\0");
        assert_eq!(written(disconnect), b"\xe0\0");
    }

    #[test]
    fn a_message_of_any_length_is_read_as_it_was_written_and_not_before_it_is_complete() {
        for size in [0, 1, 120, 127, 128, 1024, 16_384, 70_000] {
            let body = vec![5; size];
            let bytes = written(|out| publish(out, "herald/v1/load/beacon", &body, false, 3));
            for cut in [0, 1, 2, 3, 10, bytes.len() - 1] {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{size} cut at {cut}");
            }
            let topic = "herald/v1/load/beacon";
            let expected =
                Incoming::Publish { topic, payload: &body, qos: 1, retain: false, id: 3 };
            let mut more = bytes.clone();
            more.extend(b"\xd0\0");
            assert_eq!(read(&more), Ok(Some((expected, bytes.len()))));
            assert_eq!(read(&more[bytes.len()..]), Ok(Some((Incoming::PingResp, 2))));
        }
    }

    #[test]
    fn answers_are_read() {
        let connack = Incoming::ConnAck { session_present: true, code: 5 };
        assert_eq!(read(b"\x20\x02\x01\x05"), Ok(Some((connack, 4))));
        let suback = Incoming::SubAck { id: 7, codes: &[1, 0x80] };
        assert_eq!(read(b"\x90\x04\0\x07\x01\x80"), Ok(Some((suback, 6))));
        assert_eq!(read(b"\x40\x02\x01\x02"), Ok(Some((Incoming::PubAck { id: 258 }, 4))));
        assert_eq!(read(b"\xb0\x02\0\x01"), Ok(Some((Incoming::UnsubAck { id: 1 }, 4))));
    }

    #[test]
    fn what_no_broker_sends_is_malformed() {
        for bad in [
            &b"\x20\x03\0\0\0"[..],
            b"\x20\x02\x02\0",
            b"\x10\0",
            b"\x34\x07\0\x01t\0\x09xy",
            b"\x32\x02\0\x09",
            b"\x32\x05\0\x01t\0\0",
            b"\x32\x05\0\x01\xff\0\x01",
            b"\x40\x01\0",
            b"\x90\x02\0\x01",
            b"\xd0\x01\0",
            b"\x30\xff\xff\xff\xff\x01",
            b"\x30\xff\xff\xff\x7f",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}

//! Packets of MQTT 3.1.1, well formed as far as their makers let them.

/// A string behind its length.
pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u16).to_be_bytes(), text].concat()
}

/// A packet: the first byte, the length, and the body in parts.
pub(crate) fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let (mut packet, mut rest) = (vec![first], body.len());
    while rest >= 0x80 {
        packet.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    packet.push(rest as u8);
    packet.extend_from_slice(&body);
    packet
}

/// A CONNECT with these flags, a keep-alive of a minute, and these fields.
pub(crate) fn connect_with(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let fields: Vec<u8> = fields.iter().flat_map(string).collect();
    packet(0x10, &[b"\0\x04MQTT\x04", &[flags], b"\0\x3c", &fields])
}

/// A CONNECT for a session that ends with its connection.
pub(crate) fn connect(id: impl AsRef<[u8]>) -> Vec<u8> {
    connect_with(0x02, &[id.as_ref()])
}

/// A CONNECT for a session that is kept.
pub(crate) fn connect_kept(id: &str) -> Vec<u8> {
    connect_with(0x00, &[id.as_bytes()])
}

/// A CONNECT with a retained will of QoS 1.
pub(crate) fn connect_with_will(id: &str, topic: &[u8], will: &[u8]) -> Vec<u8> {
    connect_with(0x2e, &[id.as_bytes(), topic, will])
}

/// A PUBLISH of QoS 0.
pub(crate) fn publish(topic: impl AsRef<[u8]>, payload: &[u8]) -> Vec<u8> {
    packet(0x30, &[&string(topic), payload])
}

/// A PUBLISH of QoS 1.
pub(crate) fn publish_1(topic: impl AsRef<[u8]>, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&string(topic), &id.to_be_bytes(), payload])
}

/// A retained PUBLISH of QoS 1.
pub(crate) fn retain(topic: impl AsRef<[u8]>, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x33, &[&string(topic), &id.to_be_bytes(), payload])
}

/// A SUBSCRIBE with QoS 1.
pub(crate) fn subscribe<F: AsRef<[u8]>>(id: u16, filters: &[F]) -> Vec<u8> {
    let filters: Vec<u8> =
        filters.iter().flat_map(|filter| [string(filter), vec![1]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), &filters])
}

/// An UNSUBSCRIBE.
pub(crate) fn unsubscribe<F: AsRef<[u8]>>(id: u16, filters: &[F]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(string).collect();
    packet(0xa2, &[&id.to_be_bytes(), &filters])
}

/// A PUBACK.
pub(crate) fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &[&id.to_be_bytes()])
}

/// A SUBACK with these codes.
pub(crate) fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), codes])
}

/// A CONNACK of a session that was not kept.
pub(crate) fn connack(code: u8) -> Vec<u8> {
    vec![0x20, 2, 0, code]
}

pub(crate) const PINGREQ: &[u8] = b"\xc0\0";
pub(crate) const PINGRESP: &[u8] = b"\xd0\0";
pub(crate) const DISCONNECT: &[u8] = b"\xe0\0";

//! Hostile streams, each with what is to become of it and under which reason it is counted.

use std::net::Shutdown;

use crate::harness::{Broker, Bystander, Client};
use crate::packets::{
    DISCONNECT, PINGREQ, PINGRESP, connack, connect, connect_kept, connect_with, connect_with_will,
    packet, puback, publish, publish_1, retain, string, suback, subscribe, unsubscribe,
};

/// What becomes of whoever sends a stream.
enum Fate {
    /// These bytes come, and then the end.
    Closed(Vec<u8>),
    /// These bytes come, and the session goes on.
    Answered(Vec<u8>),
    /// The stream ends in the middle, and the connection with it.
    CutOff(Vec<u8>),
}
use Fate::{Answered, Closed, CutOff};

struct Stream {
    name: &'static str,
    bytes: Vec<u8>,
    fate: Fate,
    counted: &'static [(&'static str, u64)],
}

const MALFORMED: &[(&str, u64)] = &[("malformed", 1)];
const UNEXPECTED: &[(&str, u64)] = &[("unexpected", 1)];
const TOO_LARGE: &[(&str, u64)] = &[("too-large", 1)];
const VERSION: &[(&str, u64)] = &[("protocol-version", 1)];
const CLIENT_ID: &[(&str, u64)] = &[("client-id", 1)];
const WILL: &[(&str, u64)] = &[("will", 1)];
const LOGIN: &[(&str, u64)] = &[("bad-login", 1)];
const QOS: &[(&str, u64)] = &[("qos", 1)];
const TOPIC: &[(&str, u64)] = &[("topic", 1)];
const DENIED: &[(&str, u64)] = &[("publish-denied", 1)];
const FILTER: &[(&str, u64)] = &[("filter", 1)];

const STATUS: &str = "herald/v1/home/status/a/system";
const EVENT: &str = "herald/v1/home/event/a";

/// Streams of those who have no session yet.
fn before_connect() -> Vec<Stream> {
    let silently = |name, bytes, counted| Stream { name, bytes, fate: Closed(vec![]), counted };
    let told = |name, code, bytes, counted| {
        let fate = Closed(connack(code));
        Stream { name, bytes, fate, counted }
    };
    let cut = |name, bytes| Stream { name, bytes, fate: CutOff(vec![]), counted: &[] };
    let long = "x".repeat(129);
    let huge = connect("x".repeat(40_000));
    vec![
        cut("nothing at all", vec![]),
        cut("the first byte of a CONNECT", vec![0x10]),
        cut("a CONNECT without its last byte", connect("a")[..14].to_vec()),
        cut("a length that goes on", vec![0x10, 0xff, 0x80]),
        silently("a PINGREQ before CONNECT", PINGREQ.to_vec(), UNEXPECTED),
        silently("a DISCONNECT before CONNECT", DISCONNECT.to_vec(), UNEXPECTED),
        silently("a PUBLISH before CONNECT", publish(EVENT, b"x"), UNEXPECTED),
        silently("a SUBSCRIBE before CONNECT", subscribe(1, &[EVENT]), UNEXPECTED),
        silently("a CONNACK instead of a CONNECT", connack(0), UNEXPECTED),
        silently("a ClientHello of TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc".to_vec(), MALFORMED),
        silently("a request of HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), MALFORMED),
        silently("a greeting of SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), UNEXPECTED),
        silently("zeros", vec![0; 100], MALFORMED),
        silently("ones", vec![0xff; 100], MALFORMED),
        silently("a length of five bytes", b"\x10\xff\xff\xff\xff\x01".to_vec(), MALFORMED),
        silently("a CONNECT of 256 MiB", b"\x10\xff\xff\xff\x7f".to_vec(), TOO_LARGE),
        silently("a CONNECT above the limit", huge[..100].to_vec(), TOO_LARGE),
        silently("an empty CONNECT", b"\x10\0".to_vec(), MALFORMED),
        silently("flags of CONNECT's header", b"\x1f\0".to_vec(), MALFORMED),
        told(
            "MQTT 5 with properties",
            1,
            packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\x05\x11\0\0\0\x0a\0\x01a"]),
            VERSION,
        ),
        told("MQTT 3.1", 1, packet(0x10, &[b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01a"]), VERSION),
        told("MQTT of version 0", 1, packet(0x10, &[b"\0\x04MQTT\0\x02\0\x3c\0\x01a"]), VERSION),
        told("another protocol", 1, packet(0x10, &[b"\0\x04AMQP\x04\x02\0\x3c\0\x01a"]), VERSION),
        silently("the reserved flag", connect_with(0x03, &[b"a"]), MALFORMED),
        silently("a password without a user", connect_with(0x42, &[b"a", b"p"]), MALFORMED),
        silently("a QoS of no will", connect_with(0x0a, &[b"a"]), MALFORMED),
        silently("a retained will that is none", connect_with(0x22, &[b"a"]), MALFORMED),
        silently("a will of QoS 3", connect_with(0x1e, &[b"a", b"t", b"w"]), MALFORMED),
        silently("a will of QoS 2", connect_with(0x16, &[b"a", b"t", b"w"]), QOS),
        silently("more than a CONNECT has", connect_with(0x02, &[b"a", b"more"]), MALFORMED),
        silently("a will that is missing", connect_with(0x06, &[b"a"]), MALFORMED),
        silently("a user that is missing", connect_with(0x82, &[b"a"]), MALFORMED),
        silently(
            "a client id that is cut",
            packet(0x10, &[&connect("a")[2..13], b"\x09a"]),
            MALFORMED,
        ),
        silently("a client id that is not UTF-8", connect(b"\xc3\x28"), MALFORMED),
        silently("a client id with U+0000", connect("a\0b"), MALFORMED),
        told("a client id of 129 bytes", 2, connect(long), CLIENT_ID),
        told("a client id with a space", 2, connect("a b"), CLIENT_ID),
        told("a client id with a line break", 2, connect("a\nb"), CLIENT_ID),
        told("a client id beyond ASCII", 2, connect("über"), CLIENT_ID),
        told("a kept session without a name", 2, connect_kept(""), CLIENT_ID),
        told("a will beyond ASCII", 5, connect_with_will("a", "über".as_bytes(), b"w"), WILL),
        told("a will to a wildcard", 5, connect_with_will("a", b"herald/v1/home/+", b"w"), WILL),
        told("a will to everything", 5, connect_with_will("a", b"#", b"w"), WILL),
        told(
            "a retained will to an event",
            5,
            connect_with_will("a", EVENT.as_bytes(), b"w"),
            WILL,
        ),
        silently(
            "a will's topic that is not UTF-8",
            connect_with_will("a", b"\xff", b"w"),
            MALFORMED,
        ),
        silently("a user that is not UTF-8", connect_with(0x82, &[b"a", b"\xff"]), MALFORMED),
        told("a user without a password", 4, connect_with(0x82, &[b"a", b"home/a"]), LOGIN),
        told("a user of no fleet", 4, connect_with(0xc2, &[b"a", b"root", b"p"]), LOGIN),
        told("a login that is unknown", 4, connect_with(0xc2, &[b"a", b"home/a", b"p"]), LOGIN),
        told(
            "a signed password of nobody",
            4,
            connect_with(0xc2, &[b"a", b"home/a", b"herald1.AAAA.AAAA"]),
            LOGIN,
        ),
    ]
}

/// Streams behind a CONNECT that is fine: packets that no client sends, or not like this.
fn packets() -> Vec<Stream> {
    let bad = |name, bytes, counted| Stream { name, bytes, fate: Closed(vec![]), counted };
    vec![
        bad("CONNECT twice", connect("a"), UNEXPECTED),
        bad("CONNECT twice, with a will", connect_with_will("a", b"#", b"w"), UNEXPECTED),
        bad("a CONNACK", connack(0), UNEXPECTED),
        bad("a SUBACK", suback(1, &[1]), UNEXPECTED),
        bad("an UNSUBACK", packet(0xb0, &[b"\0\x01"]), UNEXPECTED),
        bad("a PINGRESP", PINGRESP.to_vec(), UNEXPECTED),
        bad("a PUBREC", packet(0x50, &[b"\0\x01"]), UNEXPECTED),
        bad("a PUBREL", packet(0x62, &[b"\0\x01"]), UNEXPECTED),
        bad("a PUBCOMP", packet(0x70, &[b"\0\x01"]), UNEXPECTED),
        bad("packet type 0", vec![0, 0], MALFORMED),
        bad("packet type 15", vec![0xf0, 0], MALFORMED),
        bad("a PINGREQ with a body", vec![0xc0, 1, 0], MALFORMED),
        bad("a PINGREQ with flags", vec![0xc1, 0], MALFORMED),
        bad("a DISCONNECT with a body", vec![0xe0, 1, 0], MALFORMED),
        bad("a PUBACK of packet 0", puback(0), MALFORMED),
        bad("a PUBACK that is too long", packet(0x40, &[b"\0\x01\0"]), MALFORMED),
        bad("a PUBACK that is too short", packet(0x40, &[b"\0"]), MALFORMED),
        bad("a PUBLISH of 256 MiB", b"\x32\xff\xff\xff\x7f".to_vec(), TOO_LARGE),
        bad("a SUBSCRIBE of 256 MiB", b"\x82\xff\xff\xff\x7f".to_vec(), TOO_LARGE),
        bad("a PUBLISH whose length does not end", b"\x30\xff\xff\xff\xff".to_vec(), MALFORMED),
        bad("a PUBLISH of nothing", packet(0x30, &[]), MALFORMED),
        bad("a SUBSCRIBE to nothing", packet(0x82, &[b"\0\x01"]), MALFORMED),
        bad("a SUBSCRIBE with other flags", packet(0x80, &[b"\0\x01\0\x01a\x01"]), MALFORMED),
        bad("a SUBSCRIBE with packet id 0", subscribe(0, &[EVENT]), MALFORMED),
        bad("a SUBSCRIBE with QoS 3", packet(0x82, &[b"\0\x01\0\x01a\x03"]), MALFORMED),
        bad("a SUBSCRIBE without QoS", packet(0x82, &[b"\0\x01\0\x01a"]), MALFORMED),
        bad("a filter that is not UTF-8", subscribe(1, &[b"\xf0\x28\x8c\x28"]), MALFORMED),
        bad("a filter longer than its packet", packet(0x82, &[b"\0\x01\xff\xffa\x01"]), MALFORMED),
        bad("an UNSUBSCRIBE from nothing", packet(0xa2, &[b"\0\x01"]), MALFORMED),
        bad("an UNSUBSCRIBE with packet id 0", unsubscribe(0, &[EVENT]), MALFORMED),
        bad("an UNSUBSCRIBE that is cut", packet(0xa2, &[b"\0\x01\0\x09a"]), MALFORMED),
        bad("bytes of noise", (1..=255).map(|n: u8| n.wrapping_mul(167)).collect(), MALFORMED),
        Stream {
            name: "a PUBLISH that is cut",
            bytes: retain(STATUS, 1, b"cut")[..20].to_vec(),
            fate: CutOff(vec![]),
            counted: &[],
        },
        Stream {
            name: "packets behind a DISCONNECT",
            bytes: [DISCONNECT, &connect("a"), b"\xff\xff\xff\xff\xff"].concat(),
            fate: Closed(vec![]),
            counted: &[],
        },
    ]
}

/// Streams behind a CONNECT that is fine: topics and filters.
fn topics() -> Vec<Stream> {
    let bad = |name, bytes, counted| Stream { name, bytes, fate: Closed(vec![]), counted };
    let refused = |name, filter: &str| Stream {
        name,
        bytes: subscribe(7, &[filter]),
        fate: Answered(suback(7, &[0x80])),
        counted: FILTER,
    };
    let fine = |name, bytes, answer| Stream { name, bytes, fate: Answered(answer), counted: &[] };
    let slashes = "/".repeat(30_000);
    let long = format!("herald/v1/home/status/a/{}", "x".repeat(30_000));
    vec![
        bad("a topic beyond ASCII", publish("über", b"x"), TOPIC),
        bad("a topic of Herald's beyond ASCII", publish("herald/v1/home/event/ü", b"x"), TOPIC),
        bad("a publish to +", publish("herald/v1/home/event/+", b"x"), TOPIC),
        bad("a publish to #", publish_1("#", 1, b"x"), TOPIC),
        bad("a publish to $SYS", publish("$SYS/broker/version", b"x"), TOPIC),
        bad("a publish to $share", publish("$share/g/herald/v1/home/beacon", b"x"), TOPIC),
        bad("a publish to no topic", publish("", b"x"), TOPIC),
        bad("a topic of no fleet", publish("herald/v1//event/a", b"x"), TOPIC),
        bad("a topic of slashes", publish(slashes, b"x"), TOPIC),
        bad("a topic of 30,000 bytes", publish(long.clone(), b"x"), TOPIC),
        bad("a topic with U+0000", publish("herald/v1/home/event/a\0", b"x"), MALFORMED),
        bad("a topic that is not UTF-8", publish(b"herald/\xff", b"x"), MALFORMED),
        bad("a topic with a surrogate", publish(b"\xed\xa0\x80", b"x"), MALFORMED),
        bad("a topic with an overlong slash", publish(b"herald\xc0\xafv1", b"x"), MALFORMED),
        bad("a topic longer than its packet", packet(0x30, &[b"\xff\xffherald"]), MALFORMED),
        bad("a publish of QoS 2", packet(0x34, &[&string(EVENT), b"\0\x01x"]), QOS),
        bad("a publish of QoS 3", packet(0x36, &[&string(EVENT), b"\0\x01x"]), MALFORMED),
        bad("a publish with packet id 0", publish_1(EVENT, 0, b"x"), MALFORMED),
        bad("a publish with half a packet id", packet(0x32, &[&string(EVENT), b"\x01"]), MALFORMED),
        bad("a publish above the limit", publish_1(EVENT, 1, &[0; 40_000]), TOO_LARGE),
        bad("a retained event", retain(EVENT, 1, b"x"), DENIED),
        bad("a status that is not retained", publish_1(STATUS, 1, b"x"), DENIED),
        bad("a clearing that is not retained", publish_1(STATUS, 1, b""), DENIED),
        refused("a filter for everything", "#"),
        refused("a filter for all below", "herald/v1/home/#"),
        refused("a filter for every fleet", "herald/v1/+/status/+/+"),
        refused("a filter with a + in a level", "herald/v1/home/status/a+/system"),
        refused("a filter with a # in the middle", "herald/#/home"),
        refused("a shared subscription", "$share/group/herald/v1/home/beacon"),
        refused("a shared subscription to a wildcard", "$share/g/herald/v1/home/status/+/+"),
        refused("a filter for $SYS", "$SYS/#"),
        refused("a filter beyond ASCII", "herald/v1/home/event/ü"),
        refused("an empty filter", ""),
        refused("a filter of 30,000 bytes", &long),
        Stream {
            name: "good filters between bad ones",
            bytes: subscribe(9, &["#", EVENT, "$share/g/a", "herald/v1/home/presence/+"]),
            fate: Answered(suback(9, &[0x80, 1, 0x80, 1])),
            counted: &[("filter", 2)],
        },
        fine("one filter a thousand times", subscribe(3, &[EVENT; 1000]), suback(3, &[1; 1000])),
        fine(
            "an end of a subscription that there is not",
            unsubscribe(5, &["#", "$share", "ü", EVENT]),
            packet(0xb0, &[b"\0\x05"]),
        ),
        fine("acknowledgements of nothing", [puback(1), puback(0xffff)].concat(), vec![]),
        fine(
            "one packet id for three messages",
            [publish_1(EVENT, 1, b"x"), publish_1(EVENT, 1, b"y"), publish_1(EVENT, 1, b"z")]
                .concat(),
            puback(1).repeat(3),
        ),
        fine("ten thousand pings", PINGREQ.repeat(10_000), PINGRESP.repeat(10_000)),
    ]
}

#[test]
fn no_hostile_stream_harms_the_broker_or_others_and_each_refusal_is_counted_by_its_reason() {
    let mut broker = Broker::start("");
    let mut streams = before_connect();
    for mut stream in packets().into_iter().chain(topics()) {
        stream.bytes.splice(..0, connect("a"));
        match &mut stream.fate {
            Closed(answer) | Answered(answer) | CutOff(answer) => {
                answer.splice(..0, connack(0));
            }
        }
        streams.push(stream);
    }
    assert!(streams.len() >= 100, "{}", streams.len());
    let bystander = Bystander::start(broker.address());
    for Stream { name, bytes, fate, counted } in streams {
        let before = broker.refusals();
        let mut client = Client::open(broker.address());
        client.send(&bytes);
        match fate {
            Closed(answer) => assert_bytes(&client.rest(), &answer, name),
            CutOff(answer) => {
                client.stream.shutdown(Shutdown::Write).unwrap();
                assert_bytes(&client.rest(), &answer, name);
            }
            Answered(answer) => {
                client.expect(&answer);
                client.ping();
                // Else the next one takes its place.
                client.send(DISCONNECT);
                client.assert_closed();
            }
        }
        broker.assert_alive();
        broker.assert_refused(&before, counted, name);
    }
    bystander.assert_was_served("hostile streams");
}

fn assert_bytes(found: &[u8], expected: &[u8], name: &str) {
    let (found, expected) = (found.escape_ascii(), expected.escape_ascii());
    assert_eq!(found.to_string(), expected.to_string(), "{name}");
}

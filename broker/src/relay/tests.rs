use std::{thread, time::Duration};

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 32 * 1024;

fn decoded(bytes: &[u8]) -> Result<Option<Packet>, Refusal> {
    decode(&mut BytesMut::from(bytes), LIMIT)
}

fn message(topic: &str, payload: &[u8], revision: u64) -> Message {
    Message {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        payload: Bytes::copy_from_slice(payload),
        revision: Some(Revision::new(revision)).filter(|revision| revision.get() != 0),
    }
}

#[test]
fn messages_come_out_as_they_went_in_and_in_order() {
    let (mut relay, mut outlet) = start().unwrap();
    let sender = thread::spawn(move || {
        for number in 0..5_000_u64 {
            let qos = if number % 3 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            let sent = message("herald/v1/home/beacon", &number.to_be_bytes(), number % 7);
            relay.publish(&sent, qos, number).unwrap();
        }
        relay
    });
    for number in 0..5_000_u64 {
        let (message, qos, token) = outlet.take().unwrap();
        assert_eq!(token, number);
        assert_eq!(message.payload, number.to_be_bytes().as_slice());
        assert_eq!(message.topic, "herald/v1/home/beacon");
        assert_eq!(message.revision.map_or(0, Revision::get), number % 7);
        assert_eq!(qos == QoS::AtMostOnce, number % 3 == 0);
    }
    sender.join().unwrap();
}

#[test]
fn whoever_puts_in_faster_than_is_taken_out_waits_and_nothing_is_lost() {
    let (mut relay, mut outlet) = start().unwrap();
    let payload = vec![7; 16 * 1024];
    let total = 4 * MOST_BYTES / payload.len();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    let sender = thread::spawn(move || {
        for number in 0..total {
            let sent = message("t", &payload, 0);
            relay.publish(&sent, QoS::AtLeastOnce, number).unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    // It stands still with what the bound allows, and not with everything.
    let mut before = usize::MAX;
    loop {
        let now = count.load(std::sync::atomic::Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
        thread::sleep(Duration::from_millis(50));
    }
    assert!(before < total, "the sender did not wait");
    for number in 0..total {
        assert_eq!(outlet.take().unwrap().2, number);
    }
    sender.join().unwrap();
}

#[test]
fn a_publisher_is_told_when_nothing_is_taken_out_any_more() {
    let (mut relay, outlet) = start().unwrap();
    drop(outlet);
    let sent = relay.publish(&message("t", b"x", 0), QoS::AtLeastOnce, ());
    assert!(matches!(sent, Err(Died::Ended(_))));
}

#[test]
fn a_connect_is_read_with_all_that_it_may_have() {
    let body = b"\0\x04MQTT\x04\xee\0\x3c\0\x02id\0\x01t\0\x04will\0\x01u\0\x01p";
    let packet = decoded(&[&[0x10, body.len() as u8], body.as_slice()].concat());
    let Ok(Some(Packet::Connect(connect))) = packet else { panic!("{packet:?}") };
    assert_eq!((connect.client_id.as_str(), connect.keep_alive), ("id", 60));
    assert!(connect.clean_session);
    assert_eq!(connect.username.as_deref(), Some("u"));
    assert_eq!(connect.password.as_deref(), Some("p"));
    let will = connect.will.unwrap();
    assert_eq!((will.topic.as_str(), &will.payload[..]), ("t", b"will".as_slice()));
    assert!(will.retain && will.packet.is_some());
}

#[test]
fn what_no_client_may_send_is_refused_by_its_reason() {
    use Refusal::{Malformed, ProtocolVersion, QoS, TooLarge, Unexpected};
    let connect = |rest: &[u8]| [&[0x10, rest.len() as u8], rest].concat();
    for (bytes, reason, what) in [
        (vec![0x00, 0], Malformed, "packet type 0"),
        (vec![0xf0, 0], Malformed, "packet type 15"),
        (vec![0x20, 2, 0, 0], Unexpected, "CONNACK"),
        (vec![0x90, 3, 0, 1, 0], Unexpected, "SUBACK"),
        (vec![0xb0, 2, 0, 1], Unexpected, "UNSUBACK"),
        (vec![0xd0, 0], Unexpected, "PINGRESP"),
        (vec![0x50, 2, 0, 1], Unexpected, "PUBREC"),
        (vec![0x62, 2, 0, 1], Unexpected, "PUBREL"),
        (vec![0x70, 2, 0, 1], Unexpected, "PUBCOMP"),
        (vec![0x11, 0], Malformed, "flags of a CONNECT"),
        (vec![0x42, 2, 0, 1], Malformed, "flags of a PUBACK"),
        (vec![0x80, 6, 0, 1, 0, 1, b'a', 0], Malformed, "flags of a SUBSCRIBE"),
        (vec![0xc1, 0], Malformed, "flags of a PINGREQ"),
        (vec![0xc0, 1, 0], Malformed, "a PINGREQ with a body"),
        (vec![0xe0, 1, 0], Malformed, "a DISCONNECT with a body"),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], Malformed, "a length of five bytes"),
        (vec![0x30, 0xff, 0xff, 0xff, 0x7f], TooLarge, "256 MiB"),
        (vec![0x36, 3, 0, 1, b't'], Malformed, "QoS 3"),
        (vec![0x34, 5, 0, 1, b't', 0, 1], QoS, "QoS 2"),
        (vec![0x32, 5, 0, 1, b't', 0, 0], Malformed, "packet id 0"),
        (vec![0x32, 4, 0, 1, b't', 0], Malformed, "half a packet id"),
        (vec![0x30, 3, 0, 9, b't'], Malformed, "a topic longer than its packet"),
        (vec![0x30, 3, 0, 1, 0xff], Malformed, "a topic that is not UTF-8"),
        (vec![0x30, 3, 0, 1, 0], Malformed, "U+0000"),
        (vec![0x40, 2, 0, 0], Malformed, "PUBACK of packet 0"),
        (vec![0x40, 3, 0, 1, 0], Malformed, "a long PUBACK"),
        (vec![0x82, 2, 0, 1], Malformed, "SUBSCRIBE to nothing"),
        (vec![0x82, 6, 0, 1, 0, 1, b'a', 3], Malformed, "SUBSCRIBE with QoS 3"),
        (vec![0x82, 6, 0, 0, 0, 1, b'a', 1], Malformed, "SUBSCRIBE with packet id 0"),
        (vec![0x82, 5, 0, 1, 0, 1, b'a'], Malformed, "SUBSCRIBE without QoS"),
        (vec![0xa2, 2, 0, 1], Malformed, "UNSUBSCRIBE from nothing"),
        (vec![0xa2, 4, 0, 1, 0, 9], Malformed, "a filter longer than its packet"),
        (connect(b"\0\x04MQTT\x05\x02\0\0\0\x01a"), ProtocolVersion, "MQTT 5"),
        (connect(b"\0\x06MQIsdp\x03\x02\0\0\0\x01a"), ProtocolVersion, "MQTT 3.1"),
        (connect(b"\0\x04HTTP\x04\x02\0\0\0\x01a"), ProtocolVersion, "another protocol"),
        (connect(b"\0\x04MQTT\x04\x03\0\0\0\x01a"), Malformed, "the reserved flag"),
        (connect(b"\0\x04MQTT\x04\x42\0\0\0\x01a\0\x01p"), Malformed, "a password alone"),
        (connect(b"\0\x04MQTT\x04\x0a\0\0\0\x01a"), Malformed, "QoS of no will"),
        (connect(b"\0\x04MQTT\x04\x22\0\0\0\x01a"), Malformed, "retain of no will"),
        (connect(b"\0\x04MQTT\x04\x1e\0\0\0\x01a\0\x01t\0\x01w"), Malformed, "a will of QoS 3"),
        (connect(b"\0\x04MQTT\x04\x16\0\0\0\x01a\0\x01t\0\x01w"), QoS, "a will of QoS 2"),
        (connect(b"\0\x04MQTT\x04\x02\0\0\0\x01ab"), Malformed, "bytes behind the CONNECT"),
        (connect(b"\0\x04MQTT\x04\x02\0\0\0\x09a"), Malformed, "a client id that is cut"),
        (connect(b"\0\x04MQTT\x04\x02\0\0\0\x01\xff"), Malformed, "a client id not UTF-8"),
        (connect(b"\0\x04MQ"), Malformed, "a CONNECT that is cut"),
    ] {
        assert_eq!(decoded(&bytes), Err(reason), "{what}");
    }
}

#[test]
fn a_packet_that_is_not_there_whole_is_waited_for() {
    let packet = [0x32, 9, 0, 3, b'a', b'/', b'b', 0, 7, b'h', b'i'];
    for length in 0..packet.len() {
        let mut received = BytesMut::from(&packet[..length]);
        assert_eq!(decode(&mut received, LIMIT), Ok(None));
        assert_eq!(received.len(), length, "nothing is taken away");
    }
    let whole = Publish {
        topic: "a/b".to_owned(),
        payload: Bytes::from_static(b"hi"),
        packet: Some(7),
        retain: false,
    };
    assert_eq!(decoded(&packet), Ok(Some(Packet::Publish(whole))));
}

proptest! {
    #[test]
    fn no_bytes_at_all_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut received = BytesMut::from(bytes.as_slice());
        while let Ok(Some(_)) = decode(&mut received, LIMIT) {}
    }

    #[test]
    fn no_damage_to_a_packet_panics(
        which in 0..5_usize, position in any::<proptest::sample::Index>(), byte in any::<u8>(),
    ) {
        let packets: [&[u8]; 5] = [
            b"\x10\x1e\0\x04MQTT\x04\xee\0\x3c\0\x02id\0\x01t\0\x04will\0\x01u\0\x01p",
            b"\x33\x09\0\x03a/b\0\x07hi",
            b"\x82\x0a\0\x01\0\x01a\x01\0\x01b\x00",
            b"\xa2\x08\0\x01\0\x01a\0\x01b",
            b"\x40\x02\0\x01",
        ];
        let mut bytes = BytesMut::from(packets[which]);
        let position = position.index(bytes.len());
        bytes[position] = byte;
        while let Ok(Some(_)) = decode(&mut bytes, LIMIT) {}
    }
}

//! A broker that shows a later release while orders are on their way.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use herald_proto::{codec, release_file::ReleaseFile, topic::Subject};

use crate::support::{Broker, Desk, HOME, Host, exits, path, stdout};

/// How many orders are on their way at once.
const WINDOW: usize = 64;
const HOSTS: u8 = 100;

/// One packet: its first byte and its body.
fn packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let first = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first, body))
}

/// Takes one connection, and acknowledges all but orders: at the first of those it shows another
/// message. Gives the topics on which orders came.
fn serve(listener: &TcpListener, topic: &str, payload: &[u8]) -> BTreeSet<String> {
    let (mut stream, _) = listener.accept().unwrap();
    let mut topics = BTreeSet::new();
    // It ends when the client does.
    while let Ok((first, body)) = packet(&mut stream) {
        let answer = match first & 0xf0 {
            0x10 => vec![0x20, 2, 0, 0],
            0x80 => {
                let (mut filters, mut rest) = (0, &body[2..]);
                while let [high, low, more @ ..] = rest {
                    rest = &more[usize::from(u16::from_be_bytes([*high, *low])) + 1..];
                    filters += 1;
                }
                assert!(filters < 126, "a length of one byte");
                let head = [0x90, 2 + filters, body[0], body[1]];
                [&head[..], &vec![1; filters.into()]].concat()
            }
            0x30 => {
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let own = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
                let is_first = topics.is_empty();
                topics.insert(own);
                if is_first { retained(topic, payload) } else { vec![] }
            }
            _ => vec![],
        };
        if stream.write_all(&answer).is_err() {
            break;
        }
    }
    topics
}

/// A PUBLISH of a retained message with QoS 0.
fn retained(topic: &str, payload: &[u8]) -> Vec<u8> {
    let length = 2 + topic.len() + payload.len();
    let head = [0x31, (length % 128) as u8 | 0x80, (length / 128) as u8];
    let topic_length = u16::try_from(topic.len()).unwrap().to_be_bytes();
    [&head, &topic_length[..], topic.as_bytes(), payload].concat()
}

#[test]
fn a_release_that_is_overtaken_while_it_is_sent_is_sent_no_further() {
    let (broker, desk) = (Broker::start(), Desk::new());
    let hosts: Vec<_> = (0..HOSTS).map(|n| Host::new(&format!("h{n}"), n + 1)).collect();
    let all: Vec<_> = hosts.iter().collect();
    let alice = stdout(&desk.herald("key public"));
    let keys = [alice.trim()];
    desk.write(
        "trust.toml",
        &format!("fleet = \"{HOME}\"\n[release]\nthreshold = 1\nkeys = {keys:?}\n"),
    );
    let trust = "trust = \"trust.toml\"";
    desk.fleet_with(&broker.url(), &all, trust);
    let wanted = hosts.iter().map(|host| (host.name.to_string(), path("new").into()));
    desk.write("all.json", &serde_json::Value::Object(wanted.collect()).to_string());
    for file in ["older.release", "newer.release"] {
        exits(&desk.herald(&format!("sign --from all.json --integrity toplevel --out {file}")), 0);
    }

    let newer = ReleaseFile::read(&std::fs::read(desk.path("newer.release")).unwrap()).unwrap();
    let (target, order) = newer.orders().last().unwrap();
    let fleet = desk.fleet_with(&broker.url(), &all, trust);
    let topic = fleet.topic(Subject::Desired(target.host.clone(), target.profile.clone()));
    let payload = codec::encode(&order);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    desk.fleet_with(&url, &all, trust);
    let broker = thread::spawn(move || serve(&listener, &topic.to_string(), &payload));
    let said = exits(&desk.herald("publish --release older.release"), 1);
    assert!(said.contains("was published since this one was signed"), "{said}");
    assert!(said.contains(&newer.release().sequence.to_string()), "{said}");
    let sent = broker.join().unwrap();
    assert!((1..=WINDOW).contains(&sent.len()), "{} of {HOSTS} were sent", sent.len());
}

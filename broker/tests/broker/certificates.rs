//! Logins over TLS, by certificate and by password.

use rustix::process::Signal;

use crate::{
    ORDER, ORDER_2,
    client::Connect,
    login::{Authority, everybody, signed, site},
    process::{Broker, Site},
    wait::until,
};

fn start() -> (Authority, Site, Broker) {
    let authority = Authority::new();
    let site = site(&everybody(), "");
    authority.issue_server(&site);
    site.configure(&(site.settings() + &Authority::listener(&site)));
    let broker = site.start_configured();
    (authority, site, broker)
}

#[test]
fn a_client_certificate_that_names_a_login_is_enough() {
    let (authority, _site, broker) = start();
    let dial = |name| authority.dial(broker.address(), name).0;
    let (mut host, _) = Connect::new("any").over(dial(Some("home/web-1"))).unwrap();
    assert_eq!(host.subscribe_all(&[(ORDER, 1), (ORDER_2, 1)]), [1, 0x80]);
    let (mut alice, _) = Connect::new("alice").over(dial(Some("home/alice"))).unwrap();
    alice.retained(ORDER, "order");
    assert_eq!(host.take().text(), "order");
    // Its own name beside it is fine, and the password is not looked at.
    let named = Connect::new("another").login("home/alice", "guess");
    named.over(dial(Some("home/alice"))).unwrap().0.ping();
    assert_eq!(named.over(dial(Some("home/web-1"))).err(), Some(4));
    host.assert_idle();
}

#[test]
fn a_certificate_that_names_nobody_leaves_it_to_user_name_and_password() {
    let (authority, _site, broker) = start();
    let dial = |name| authority.dial(broker.address(), name).0;
    for name in [Some("home/nobody"), Some("web-1"), Some("other/web-1"), None] {
        assert_eq!(Connect::new("x").over(dial(name)).err(), Some(5), "{name:?}");
        assert_eq!(signed("web-1").over(dial(name)).err(), None, "{name:?}");
        let wrong = Connect::new("x").login("home/web-1", "guess");
        assert_eq!(wrong.over(dial(name)).err(), Some(4), "{name:?}");
    }
}

#[test]
fn certificates_are_read_again_on_sighup_and_connections_stay() {
    let (authority, site, broker) = start();
    let (wire, before) = authority.dial(broker.address(), None);
    let (mut connected, _) = signed("web-1").over(wire).unwrap();
    authority.issue_server(&site);
    broker.signal(Signal::HUP);
    until("another certificate is shown", || authority.dial(broker.address(), None).1 != before);
    connected.ping();
    let (wire, current) = authority.dial(broker.address(), Some("home/alice"));
    Connect::new("alice").over(wire).unwrap().0.ping();

    site.write("chain.pem", "broken");
    broker.signal(Signal::HUP);
    broker.wait_for_log("the certificate before is kept");
    assert_eq!(authority.dial(broker.address(), None).1, current);
    // Logins were read again all the same.
    broker.wait_for_log("logins and passwords were read again");
    connected.ping();
}

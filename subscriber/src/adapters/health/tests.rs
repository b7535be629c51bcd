use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::os::Linux;

/// Answers every connection, once its request is there, and gives the address.
async fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            assert!(request.starts_with("GET /ready?now HTTP/1.1\r\nHost: "), "{request}");
            if request.contains("\r\nHost: www.example.org\r\n") {
                stream.write_all(b"HTTP/1.1 418 \r\n\r\n").await.unwrap();
            } else {
                // Whoever has read enough closes the connection.
                let _ = stream.write_all(answer).await;
            }
        }
    });
    address
}

async fn asked(address: SocketAddr, terms: &str) -> Result<(), String> {
    let check = format!("http://{address}/ready?now {terms}").parse().unwrap();
    look(&Linux, &Check::Http(check), "").await
}

#[tokio::test]
async fn a_page_is_healthy_by_the_status_of_its_answer_alone() {
    let cases: [(&[u8], &str, &str); 12] = [
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody", "", ""),
        (b"HTTP/1.0 204 \r\n\r\n", "", ""),
        (b"HTTP/1.1 299\r\n\r\n", "", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "", ""),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            "",
            "it answers 301, not 200-299",
        ),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status=301", ""),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "", "it answers 503, not 200-299"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "status=500-599", ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", "host=www.example.org", "it answers 418, not 200-299"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "", "its answer is not HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "", "its answer is not HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nX: ",
            "",
            "it closed the connection before its answer's head had ended",
        ),
    ];
    for (answer, terms, expected) in cases {
        let said = asked(server(answer).await, terms).await.err().unwrap_or_default();
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn an_answer_without_end_is_read_to_a_bound() {
    let endless = server(Box::leak(vec![b'x'; 1 << 20].into_boxed_slice())).await;
    assert_eq!(asked(endless, "").await, Err("the head of its answer does not end".into()));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_the_time_of_the_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let said = asked(listener.local_addr().unwrap(), "within=50ms").await;
    assert_eq!(said, Err("no answer within 50ms".into()));
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(asked(address, "").await.unwrap_err().contains("refused"));
}

#[tokio::test]
async fn the_checks_of_a_round_run_at_once_and_each_that_fails_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one", "two", "three", "four", "five", "six", "seven"];
    // Each waits until all of them have begun.
    let script = "touch \"$0/$1\"; until [ $(ls \"$0\" | wc -l) = 7 ]; do sleep 0.02; done; echo it is $1 >&2; false";
    let checks = names.map(|name| {
        let argv = ["sh", "-c", script, folder.path().to_str().unwrap(), name];
        Check::Command(argv.map(str::to_owned).to_vec())
    });
    let parts = checks.iter().map(|check| -> Part { Box::pin(run(&Linux, "a".into(), check, "")) });
    let failed: Vec<_> = all(parts.collect()).await.into_iter().filter_map(Result::err).collect();
    let said = said(&failed).to_string();
    for name in names {
        assert!(said.contains(&format!("it is {name}")), "{said}");
    }
}

#[test]
fn however_much_fails_it_is_named_in_a_bounded_text() {
    let failed = |count: usize| {
        let texts = (0..count).map(|number| format!("check-{number:02} {}", "é".repeat(2000)));
        said(&texts.collect::<Vec<_>>()).to_string()
    };
    for count in 1..=NAMED {
        let said = failed(count);
        assert!(said.len() <= SAID, "{}", said.len());
        assert!((0..count).all(|number| said.contains(&format!("check-{number:02} é"))), "{said}");
    }
    let many = failed(85);
    assert!(many.starts_with("check-00 é") && many.ends_with("; and 69 more"), "{many}");
    assert_eq!(said(&["a: b".into(), "c: d".into()]).as_str(), "a: b; c: d");
}

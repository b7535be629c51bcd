//! A health check over HTTP: which URL, and which answer is a good one.
//!
//! One text form serves people, files and JSON: the URL, and then what differs from what is usual,
//! as in `http://127.0.0.1:8080/ready status=200-399 host=www.example.org within=5s`.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

use crate::{
    codec::{self, Malformed, Value, Wire},
    text::Unparsable,
};

/// The port of a URL that names none.
const DEFAULT_PORT: u16 = 80;
/// The most characters that a URL has.
const MAX_URL: usize = 1024;
/// The longest that an answer may be waited for.
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// A request over HTTP, and the answer that is a good one. A redirect is an answer as any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// What is asked for.
    pub url: HttpUrl,
    /// Which host is named in the request, if it is not that of the URL.
    pub host: Option<HttpHost>,
    /// The statuses that are good, if they are not 200 to 299.
    pub status: Option<StatusRange>,
    /// How long the answer may take, if it is not as long as every check may take.
    pub within: Option<Patience>,
}

impl HttpCheck {
    /// Gives the statuses that are good.
    pub fn good(&self) -> StatusRange {
        self.status.unwrap_or(StatusRange::SUCCESS)
    }

    /// Gives the value of the request's `Host`.
    pub fn host_header(&self) -> String {
        self.host.as_ref().map_or_else(|| self.url.authority(), |host| host.0.clone())
    }
}

wire_map!(HttpCheck, unknown keys Refuse:
    1 => url required,
    2 => host optional,
    3 => status optional,
    4 => within optional,
);

impl fmt::Display for HttpCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        if let Some(status) = self.status {
            write!(f, " status={status}")?;
        }
        if let Some(HttpHost(host)) = &self.host {
            write!(f, " host={host}")?;
        }
        if let Some(within) = self.within {
            write!(f, " within={within}")?;
        }
        Ok(())
    }
}

impl FromStr for HttpCheck {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let mut parts = text.split_ascii_whitespace();
        let url = parts.next().unwrap_or_default().parse()?;
        let mut check = Self { url, host: None, status: None, within: None };
        for part in parts {
            let fresh = match part.split_once('=') {
                Some(("status", value)) => check.status.replace(value.parse()?).is_none(),
                Some(("host", value)) => check.host.replace(value.parse()?).is_none(),
                Some(("within", value)) => check.within.replace(value.parse()?).is_none(),
                _ => false,
            };
            if !fresh {
                let expected = "URL [status=200-299] [host=NAME] [within=5s], each once";
                return Err(Unparsable::new("HTTP check", text, expected));
            }
        }
        Ok(check)
    }
}

serde_as_text!(HttpCheck);

/// How long an answer is waited for: whole milliseconds, at least one, at most a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(Duration);

impl Patience {
    /// Gives the time.
    pub fn get(self) -> Duration {
        self.0
    }

    fn of(span: Duration) -> Option<Self> {
        let whole = span.subsec_nanos().is_multiple_of(1_000_000);
        (whole && !span.is_zero() && span <= MAX_PATIENCE).then_some(Self(span))
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl FromStr for Patience {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let span = humantime::parse_duration(text).ok().and_then(Self::of);
        span.ok_or_else(|| {
            Unparsable::new("time for an HTTP check", text, "1ms to 60s, such as 5s")
        })
    }
}

impl Wire for Patience {
    fn to_value(&self) -> Value {
        self.0.to_value()
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let span = Self::of(Duration::from_value(value)?);
        span.ok_or_else(|| Malformed::invalid(&"an answer is waited for from 1 ms to a minute"))
    }
}

/// The statuses from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Whatever says that it went well.
    pub const SUCCESS: Self = Self { first: 200, last: 299 };

    /// Tells whether a status is among them.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }

    fn of(first: u16, last: u16) -> Option<Self> {
        let known = (100..=599).contains(&first) && (first..=599).contains(&last);
        known.then_some(Self { first, last })
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl FromStr for StatusRange {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| if text.len() == 3 { text.parse().ok() } else { None };
        let range = number(first).zip(number(last)).and_then(|(first, last)| Self::of(first, last));
        range.ok_or_else(|| {
            Unparsable::new("range of HTTP statuses", text, "one of 100 to 599, or two, as 200-399")
        })
    }
}

/// On the wire: the first and the last.
impl Wire for StatusRange {
    fn to_value(&self) -> Value {
        Value::Array(vec![self.first.to_value(), self.last.to_value()])
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let bad = || Malformed::invalid(&"a range of statuses is two of 100 to 599, in order");
        let parts = <[Value; 2]>::try_from(codec::array(value)?).map_err(|_| bad())?;
        let [first, last] = parts.map(u16::from_value);
        Self::of(first?, last?).ok_or_else(bad)
    }
}

/// The host that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpHost(String);

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HttpHost {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Unparsable::new("host of an HTTP request", text, "NAME or NAME:PORT"))
        }
    }
}

wire_as_text!(HttpHost);

/// An `http://` URL in its shortest form: no user, no fragment, port 80 left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    server: Server,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl HttpUrl {
    /// Gives the name or address to connect to, and the port.
    pub fn server(&self) -> (String, u16) {
        let host = match &self.server {
            Server::Name(name) => name.clone(),
            Server::V4(ip) => IpAddr::from(*ip).to_string(),
            Server::V6(ip) => IpAddr::from(*ip).to_string(),
        };
        (host, self.port)
    }

    /// Gives the path with its query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Gives host and port as a request names them.
    fn authority(&self) -> String {
        let mut text = match &self.server {
            Server::Name(name) => name.clone(),
            Server::V4(ip) => ip.to_string(),
            Server::V6(ip) => format!("[{ip}]"),
        };
        if self.port != DEFAULT_PORT {
            let _ = write!(text, ":{}", self.port);
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").filter(|_| text.len() <= MAX_URL)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = match path {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if !path.starts_with('/') || !path.bytes().all(visible) {
            return None;
        }
        let (server, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (ip, port) = rest.split_once(']')?;
                let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
                (Server::V6(ip.parse().ok()?), port)
            }
            None => {
                let (name, port) = match authority.split_once(':') {
                    Some((name, port)) => (name, Some(port)),
                    None => (authority, None),
                };
                let ip = name.parse().map(Server::V4);
                let server =
                    ip.or_else(|_| is_name(name).then(|| Server::Name(name.to_owned())).ok_or(()));
                (server.ok()?, port)
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            Some(_) => return None,
        };
        (port != 0).then_some(Self { server, port, path })
    }
}

/// Tells whether a text is a DNS name in lower case, and no malformed address.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(valid)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

impl FromStr for HttpUrl {
    type Err = Unparsable;

    fn from_str(text: &str) -> Result<Self, Unparsable> {
        Self::parse(text).ok_or_else(|| {
            let expected = if text.starts_with("https://") {
                "http://: for TLS, let a command check run curl"
            } else {
                "http://HOST[:PORT]/PATH, with HOST in lower case and no fragment"
            };
            Unparsable::new("URL of an HTTP check", text, expected)
        })
    }
}

/// On the wire only the shortest form is taken.
impl Wire for HttpUrl {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let text = codec::text(value)?;
        let url: Self = text.parse().map_err(|error| Malformed::invalid(&error))?;
        if url.to_string() == text {
            Ok(url)
        } else {
            Err(Malformed::invalid(&"a URL in its shortest form is expected"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HttpCheck, String> {
        text.parse().map_err(|error: Unparsable| error.to_string())
    }

    #[test]
    fn a_check_is_written_as_it_was_read_in_its_shortest_form() {
        for (text, shortest) in [
            ("http://localhost", "http://localhost/"),
            ("http://a.example:80/x?y=%20", "http://a.example/x?y=%20"),
            ("http://[0::1]:8080/", "http://[::1]:8080/"),
            (
                "http://127.0.0.1/a within=1500ms  host=www.example.org:81 status=200-399",
                "http://127.0.0.1/a status=200-399 host=www.example.org:81 within=1s500ms",
            ),
            ("http://h/ status=204-204", "http://h/ status=204"),
        ] {
            let check = parse(text).unwrap();
            assert_eq!(check.to_string(), shortest);
            assert_eq!(parse(shortest).unwrap(), check);
            assert_eq!(HttpCheck::from_value(check.to_value()).unwrap(), check);
        }
    }

    #[test]
    fn what_is_no_check_is_refused_and_says_what_is_one() {
        for (text, said) in [
            ("", "http://HOST"),
            ("https://h/", "curl"),
            ("http:///x", "http://HOST"),
            ("http://user@h/", "http://HOST"),
            ("http://h/#part", "http://HOST"),
            ("http://h?x", "http://HOST"),
            ("http://H/", "lower case"),
            ("http://1.2.3/", "http://HOST"),
            ("http://h:0/", "http://HOST"),
            ("http://h:+80/", "http://HOST"),
            ("http://h:65536/", "http://HOST"),
            ("http://[::1/", "http://HOST"),
            ("http://h/\r\nX: y", "URL [status"),
            ("http://h/ status=99", "100 to 599"),
            ("http://h/ status=299-200", "100 to 599"),
            ("http://h/ status=+200", "100 to 599"),
            ("http://h/ status=200 status=200", "each once"),
            ("http://h/ host=a/b", "NAME:PORT"),
            ("http://h/ within=0s", "1ms to 60s"),
            ("http://h/ within=61s", "1ms to 60s"),
            ("http://h/ within=1us", "1ms to 60s"),
            ("http://h/ follow=yes", "URL [status"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(said), "{text}: {refusal}");
        }
        let long = format!("http://h/{}", "x".repeat(MAX_URL));
        assert!(parse(&long).is_err());
    }

    #[test]
    fn good_statuses_are_those_of_success_or_as_the_check_says() {
        let good = |text: &str| parse(text).unwrap().good();
        assert_eq!(good("http://h/"), StatusRange::SUCCESS);
        let redirects = good("http://h/ status=301-302");
        let which = [300, 301, 302, 303].map(|status| redirects.contains(status));
        assert_eq!(which, [false, true, true, false]);
    }
}

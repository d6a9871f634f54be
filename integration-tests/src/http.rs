//! As much of an HTTP/1.1 client as a test needs: one request a connection, every byte as given.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::process::PATIENCE;

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Response {
    /// Returns the value of a header, given by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Writes the value of an `Authorization` header.
#[must_use]
pub fn basic(login: &str, password: &[u8]) -> String {
    let mut bytes = format!("{login}:").into_bytes();
    bytes.extend_from_slice(password);
    format!("Basic {}", STANDARD.encode(bytes))
}

/// Asks for a path.
///
/// # Panics
/// If no response comes back.
#[track_caller]
#[must_use]
pub fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    exchange(address, request.as_bytes()).unwrap_or_else(|| panic!("no response to {path}"))
}

/// Sends bytes and reads a response; nothing if the server closes the connection without one.
///
/// # Panics
/// If there is no server, or it says nothing for a minute, or not HTTP.
#[must_use]
pub fn exchange(address: SocketAddr, request: &[u8]) -> Option<Response> {
    let mut stream = TcpStream::connect(address).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    // A server that refuses a request may close before it has read all of it.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            panic!("the server at {address} neither answers nor closes")
        }
        _ => parse(&bytes),
    }
}

/// Posts an object, to a server that may be killed meanwhile.
///
/// # Errors
/// If there is no server, or not all of a response.
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> io::Result<Response> {
    let body = body.to_string();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    request += &body;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let half = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(half)?;
    let response = parse(&bytes).ok_or_else(half)?;
    let length = response.header("content-length").and_then(|length| length.parse().ok());
    if length == Some(bytes.len() - head - 4) { Ok(response) } else { Err(half()) }
}

fn parse(bytes: &[u8]) -> Option<Response> {
    if bytes.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("half a response: {text}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    assert!(!chunked, "this client reads no chunks: {head}");
    Some(Response { status: status.expect("a status"), headers, body: body.to_owned() })
}

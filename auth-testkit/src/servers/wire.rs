//! Just enough of the servers' protocols to look at them from outside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to answer a test.
const LIMIT: Duration = Duration::from_secs(5);

/// What Redis has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK` and its like.
    Simple(String),
    /// An error, as the server words it.
    Error(String),
    /// A number.
    Int(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Nil,
    /// Several.
    Array(Vec<Self>),
}

impl Reply {
    /// Returns the number.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    /// Returns the bytes, of a simple answer too; `None` for nothing.
    ///
    /// # Panics
    /// If it is an error, a number, or several.
    #[track_caller]
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bulk(bytes) => Some(bytes),
            Self::Simple(text) => Some(text.as_bytes()),
            Self::Nil => None,
            other => panic!("no bytes: {other:?}"),
        }
    }

    /// Returns the bytes as text.
    ///
    /// # Panics
    /// If there are none.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.bytes().expect("something");
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Returns the answers that this one is made of.
    ///
    /// # Panics
    /// If it is not made of others.
    #[track_caller]
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            other => panic!("not several: {other:?}"),
        }
    }
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection for one test's question.
pub(super) struct Wire(BufReader<Box<dyn Stream>>);

impl Wire {
    pub(super) fn tcp(port: u16) -> io::Result<Self> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Asks Redis.
    pub(super) fn redis<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            let part = part.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)?;
        self.reply()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let odd = || io::Error::other(format!("an odd answer: {line}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(odd)?;
        let number = || rest.parse::<i64>().map_err(|_| odd());
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "$" | "*" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; usize::try_from(number()?).map_err(|_| odd())? + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Reply::Bulk(bytes)
            }
            "*" => Reply::Array((0..number()?).map(|_| self.reply()).collect::<io::Result<_>>()?),
            _ => return Err(odd()),
        })
    }

    /// Asks memcached, and returns everything up to the end of its answer.
    pub(super) fn memcached(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // What comes after the answer: that of the command which does nothing.
        const END: &[u8] = b"MN\r\n";
        self.0.get_mut().write_all(&[command, b"\r\nmn\r\n"].concat())?;
        let mut bytes = Vec::new();
        while !bytes.ends_with(END) {
            if self.0.read_until(b'\n', &mut bytes)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.truncate(bytes.len() - END.len());
        Ok(bytes)
    }
}

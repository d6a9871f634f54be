//! Names on the wire.

use auth_core::{Error, ErrorKind, Result, WireName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

use crate::config::MAX_PREFIX;

/// How many lanes a cluster has: enough to spread over its nodes, few enough to void on each.
pub(crate) const CLUSTER_LANES: usize = 64;

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// A prefix, what may follow it, `{63}` and 22 characters.
const MAX_KEY: usize = MAX_PREFIX + MAX_MARK + 4 + 22;

/// The most bytes that follow a prefix, to keep keys of several kinds apart.
pub(crate) const MAX_MARK: usize = 2;

/// A key, without an allocation.
pub(crate) struct Key {
    bytes: [u8; MAX_KEY],
    len: usize,
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl ToRedisArgs for Key {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.as_ref());
    }
}

impl ToSingleRedisArg for Key {}

/// Makes keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// What the keys of each lane begin with.
    fronts: Box<[Box<[u8]>]>,
}

impl Keys {
    /// Takes a prefix of at most [`MAX_PREFIX`] bytes, with at most [`MAX_MARK`] more.
    pub(crate) fn new(prefix: &str, lanes: usize) -> Self {
        let front = |lane: usize| match lanes {
            1 => prefix.as_bytes().into(),
            _ => format!("{prefix}{{{lane}}}").into_bytes().into_boxed_slice(),
        };
        Self { fronts: (0..lanes).map(front).collect() }
    }

    pub(crate) fn lanes(&self) -> usize {
        self.fronts.len()
    }

    /// Returns the lane of an entry. The name is a keyed hash, so any byte of it is as good as another.
    pub(crate) fn lane(&self, entry: &WireName) -> usize {
        let [first, ..] = *entry.as_bytes();
        usize::from(first) % self.fronts.len()
    }

    pub(crate) fn key(&self, lane: usize, name: &WireName) -> Key {
        let mut bytes = [0; MAX_KEY];
        let front = self.fronts.get(lane).map_or(&[][..], |front| front);
        let mut len = front.len();
        if let Some(to) = bytes.get_mut(..len) {
            to.copy_from_slice(front);
        }
        // There is room: the prefix is bounded.
        len += bytes
            .get_mut(len..)
            .and_then(|rest| URL_SAFE_NO_PAD.encode_slice(name.as_bytes(), rest).ok())
            .unwrap_or(0);
        Key { bytes, len }
    }
}

/// Returns the slot of a lane of a cluster.
pub(crate) fn lane_slot(lane: usize) -> u16 {
    slot(lane.to_string().as_bytes())
}

/// Returns the slot of the keys with this between their braces.
pub(crate) fn slot(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// Returns random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "the system gives no random bytes").because(error)
    })?;
    Ok(bytes)
}

/// The checksum that a cluster spreads keys by: CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_prefix_the_lane_and_the_name() {
        let name = WireName::new([0xff; 16]);
        let text = |keys: &Keys, lane| String::from_utf8(keys.key(lane, &name).as_ref().to_vec()).unwrap();
        assert_eq!(text(&Keys::new("gp:", 1), 0), "gp:_____________________w");
        assert_eq!(text(&Keys::new("gp:", 64), 17), "gp:{17}_____________________w");
        let longest = Keys::new(&"p".repeat(MAX_PREFIX + MAX_MARK), 64);
        assert_eq!(longest.key(63, &name).as_ref().len(), MAX_KEY);
    }

    #[test]
    fn slots_are_those_of_a_cluster() {
        // What CLUSTER KEYSLOT says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b"foo") % SLOTS, 12_182);
    }
}

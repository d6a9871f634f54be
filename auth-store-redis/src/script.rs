//! What must happen in one step of the server.

use sha1::{Digest, Sha1};

/// Makes generations that are not there. Keys: the generations. Values: how long to keep them, in milliseconds, and a
/// new one for each.
const MAKE: &str = "\
local keep=tonumber(ARGV[1]) \
local out={} \
for i,key in ipairs(KEYS) do \
local value=redis.call('GET',key) \
if not value or #value~=8 then value=ARGV[i+1] redis.call('SET',key,value,'PX',ARGV[1]) \
elseif redis.call('PTTL',key)<keep then redis.call('PEXPIRE',key,ARGV[1]) end \
out[i]=value end \
return out";

/// Keeps an entry whose generations still stand. Keys: the entry and the generations. Values: its bytes, when it ends
/// and how long to keep the generations, both in milliseconds, and the generations. The end is a point in time, so
/// that a write which arrives late lives no longer; one that is past removes the entry.
const WRITE: &str = "\
local keep=tonumber(ARGV[3]) \
if #KEYS>1 then \
local now=redis.call('MGET',unpack(KEYS,2)) \
for i=2,#KEYS do if now[i-1]~=ARGV[i+2] then return 0 end end end \
redis.call('SET',KEYS[1],ARGV[1],'PXAT',ARGV[2]) \
for i=2,#KEYS do if redis.call('PTTL',KEYS[i])<keep then redis.call('PEXPIRE',KEYS[i],ARGV[3]) end end \
return 1";

/// A script, and the name under which a server knows it once it has seen it.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) text: &'static str,
    pub(crate) hash: String,
}

impl Script {
    pub(crate) fn new(text: &'static str) -> Self {
        let hash = Sha1::digest(text.as_bytes());
        Self { text, hash: hash.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    pub(crate) fn make() -> Self {
        Self::new(MAKE)
    }

    pub(crate) fn write() -> Self {
        Self::new(WRITE)
    }
}

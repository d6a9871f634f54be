//! What happens to sessions, each one script: the server runs it as a whole, and nothing else meanwhile.
//!
//! A server does not undo a script that fails half-way. So each looks at everything first, and then writes; its first
//! write is one that a server without memory refuses. To look at a key of another kind is an error; what is only written
//! is asked for its kind.
//!
//! The first key is the lane's: of which life of the server it is (`life`), since when it can be believed (`since`), and
//! of each realm how often it has ended as a whole (`n:REALM`), when and why (`e:REALM:N`). A family has in `epoch` how
//! often that had been when it began: an end of a realm is one write, however many families it has. One that has ended by
//! itself has `-` there.
//!
//! A family has in `last` what its last renewal was: when, and after a blank each when it was last used, how often that
//! was retried, and 1 if it is confirmed. A renewal writes the first alone: used then, and neither of the others. What a
//! renewal looks at comes first, since a server looks through the fields of a small hash in turn.
//!
//! The first values: the life of the server as whoever asks knows it, and the realm's name in fields. If it was sent
//! before, there is one more at the end: 1.
//!
//! Numbers of Lua are doubles: no time is later than what they hold exactly, and times are stored as the texts that they
//! came as.

use crate::script::Script;

/// It was not so, or nothing was there.
pub(super) const NO: i64 = 0;
/// A key is of another kind, or a family can't be read.
pub(super) const CORRUPT: i64 = -1;
/// This life of the server is not known yet, or it has lost everything.
pub(super) const NEW_LIFE: i64 = -4;
/// Somebody has as many sessions as there may be: 65,536.
pub(super) const FULL: i64 = -5;
/// It was sent before, and what came of it can't be told any more.
pub(super) const UNCLEAR: i64 = -6;

macro_rules! script {
    ($($line:expr),+ $(,)?) => {
        concat!(
            "local s=redis.call('HMGET',KEYS[1],'life','n:'..ARGV[2],'since') local n=s[2] or '0' ",
            "local function is(key,kind) local t=redis.call('TYPE',key)['ok'] return t==kind or t=='none' end ",
            "local function whole(x) return string.format('%.0f',x) end ",
            $($line, "\n"),+
        )
    };
}

/// Goes on only if the server's life is known.
macro_rules! known {
    () => {
        "if s[1]~=ARGV[1] then return -4 end "
    };
}

/// For how long a key is kept that ends at one moment, as told at another. The clocks of those who ask and of the server
/// may differ: by either it is kept long enough, and so much longer.
macro_rules! keep {
    () => {
        "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) \
         local function life(from,to,margin) \
         return math.max(0,tonumber(to)-tonumber(from),tonumber(to)-now)+margin end \
         local function extend(key,ms) local left=redis.call('PTTL',key) \
         if left<ms then redis.call('PEXPIRE',key,whole(ms)) end end "
    };
}

/// Remembers a revocation; the later of each is kept. Kept for an hour longer than it counts.
macro_rules! revoke {
    () => {
        "local function revoke(key,at,till) \
         local old=redis.call('HMGET',key,'at','until') \
         if old[1] and tonumber(old[1])>tonumber(at) then at=old[1] end \
         if old[2] and tonumber(old[2])>tonumber(till) then till=old[2] end \
         redis.call('HSET',key,'at',at,'until',till) \
         extend(key,life(at,till,3600000)) end "
    };
}

/// Keys: the lane, the family, what is due. Values: the operation, login, when it begins, when it may go, the realm's
/// front, the id, whether it is live, and fields with their values.
const BEGIN: &str = script!(
    known!(),
    keep!(),
    "if not is(KEYS[3],'zset') then return -1 end",
    "local op=redis.call('HGET',KEYS[2],'op')",
    "if op==ARGV[3] then return 1 end if op or redis.call('EXISTS',KEYS[2])==1 then return 0 end",
    "local hers,live=ARGV[7]..':p:'..n..':'..ARGV[4],ARGV[7]..':l:'..n",
    "if not(is(hers,'zset') and is(live,'set')) then return -1 end",
    "if ARGV[9]=='1' and redis.call('ZCARD',hers)>=65536 then return -5 end",
    "local f={'epoch',ARGV[9]=='1' and n or '-','op',ARGV[3]}",
    "for i=10,#ARGV-1,2 do f[#f+1]=ARGV[i] f[#f+1]=ARGV[i+1] end",
    "redis.call('HSET',KEYS[2],unpack(f))",
    "local ms=life(ARGV[5],ARGV[6],86400000)",
    "redis.call('PEXPIRE',KEYS[2],whole(ms))",
    "redis.call('ZADD',KEYS[3],ARGV[6],ARGV[2]..':'..ARGV[8])",
    "if ARGV[9]=='1' then",
    "redis.call('ZADD',hers,ARGV[5],ARGV[8]) extend(hers,ms)",
    "redis.call('SADD',live,ARGV[8]) extend(live,ms) end",
    "return 1",
);

/// Keys: the lane, the family. Returns its fields, how often its realm has ended, and when and why it has ended with it.
const FAMILY: &str = script!(
    "local f=redis.call('HGETALL',KEYS[2])",
    "if #f==0 then return 0 end",
    "local e=redis.call('HGET',KEYS[2],'epoch')",
    "if e==n or e=='-' then return {f,''} end",
    "return {f,redis.call('HGET',KEYS[1],'e:'..ARGV[2]..':'..whole((tonumber(e) or 0)+1)) or '0 revoked'}",
);

/// Keys: the lane, the family. Values: the operation, the generation, the next one, when, the end if it is not used.
const RENEW: &str = concat!(
    "local s=redis.call('HMGET',KEYS[1],'life','n:'..ARGV[2]) ",
    known!(),
    "local f=redis.call('HMGET',KEYS[2],'gen','epoch','idle_end','end') ",
    "local gen,idle,over=f[1],tonumber(f[3]),tonumber(f[4]) ",
    "if not gen then return 0 end ",
    "if not(f[2] and idle and over) then return -1 end ",
    "if gen~=ARGV[4] then ",
    "if gen==ARGV[5] and redis.call('HGET',KEYS[2],'op')==ARGV[3] then return 1 end ",
    // Perhaps it was done, and what it has made was replaced since.
    "if ARGV[8]=='1' and tonumber(gen)>tonumber(ARGV[4]) then return -6 end return 0 end ",
    "local at=tonumber(ARGV[6]) ",
    "if f[2]~=(s[2] or '0') or at>=idle or at>=over then return 0 end ",
    "redis.call('HSET',KEYS[2],'gen',ARGV[5],'last',ARGV[6],'idle_end',ARGV[7],'op',ARGV[3]) ",
    "return 1",
);

/// Looks at a family and its last renewal.
macro_rules! look {
    () => {
        "local f=redis.call('HMGET',KEYS[2],'gen','epoch','idle_end','end','last') \
         if not f[1] then return 0 end \
         for i=2,5 do if not f[i] then return -1 end end \
         local rot,used,ret,conf=string.match(f[5],'^(%d+) (%d+) (%d+) ([01])$') \
         if not rot then rot,used,ret,conf=f[5],f[5],'0','0' end \
         local idle,over=tonumber(f[3]),tonumber(f[4]) \
         if not(tonumber(rot) and idle and over) then return -1 end \
         local function note(ret,conf) \
         redis.call('HSET',KEYS[2],'last',rot..' '..used..' '..ret..' '..conf) end "
    };
}

/// Keys: the lane, the family. Values: the generation after that shown, when, the grace, the most.
const RETRY: &str = script!(
    known!(),
    look!(),
    "local at=tonumber(ARGV[4])",
    "if f[1]~=ARGV[3] or conf~='0' or f[2]~=n or at>=idle or at>=over then return 0 end",
    "if math.abs(at-tonumber(rot))>=tonumber(ARGV[5]) or tonumber(ret)>=tonumber(ARGV[6]) then return 0 end",
    "note(whole(tonumber(ret)+1),conf)",
    "return 1",
);

/// Keys: the lane, the family. Values: the generation.
const CONFIRM: &str = script!(
    look!(),
    "if f[1]==ARGV[3] and conf=='0' and f[2]==n then note(ret,'1') return 1 end",
    "return 0",
);

/// What all ends begin with. Keys: the lane, the note, the revocation. Values: when, why, until when it is remembered,
/// the realm's front.
macro_rules! end {
    () => {
        concat!(
            "local note=redis.call('GET',KEYS[2]) if note then return tonumber(note) end ",
            "redis.call('HGET',KEYS[3],'at') ",
            keep!(),
            revoke!(),
            "local function done(count) redis.call('SET',KEYS[2],count,'PX',600000) revoke(KEYS[3],ARGV[3],ARGV[5]) end ",
        )
    };
}

/// Keys: also the family. Values: also the id.
const END_FAMILY: &str = script!(
    end!(),
    "local f=redis.call('HMGET',KEYS[4],'login','epoch')",
    "if not f[1] or f[2]~=n then done(0) return 0 end",
    "local hers,live=ARGV[6]..':p:'..n..':'..f[1],ARGV[6]..':l:'..n",
    "if not(is(hers,'zset') and is(live,'set')) then return -1 end",
    "done(1)",
    "redis.call('HSET',KEYS[4],'epoch','-','ended',ARGV[3],'why',ARGV[4])",
    "redis.call('ZREM',hers,ARGV[7]) redis.call('SREM',live,ARGV[7])",
    "return 1",
);

/// Values: also the login.
const END_PERSON: &str = script!(
    end!(),
    "local hers,live=ARGV[6]..':p:'..n..':'..ARGV[7],ARGV[6]..':l:'..n",
    "if not is(live,'set') then return -1 end",
    "local ids={}",
    "for _,id in ipairs(redis.call('ZRANGE',hers,0,-1)) do",
    "if redis.call('HGET',ARGV[6]..':f:'..id,'epoch')==n then ids[#ids+1]=id end end",
    "done(#ids)",
    "for _,id in ipairs(ids) do",
    "redis.call('HSET',ARGV[6]..':f:'..id,'epoch','-','ended',ARGV[3],'why',ARGV[4]) redis.call('SREM',live,id) end",
    "redis.call('UNLINK',hers)",
    "return #ids",
);

const END_REALM: &str = script!(
    end!(),
    "local live=ARGV[6]..':l:'..n",
    "local count,next=redis.call('SCARD',live),whole(tonumber(n)+1)",
    "done(count)",
    "redis.call('HSET',KEYS[1],'n:'..ARGV[2],next,'e:'..ARGV[2]..':'..next,ARGV[3]..' '..ARGV[4])",
    "redis.call('UNLINK',live)",
    "return count",
);

/// Keys: the lane. Values: the realm's front, the login, when, the most.
const SESSIONS: &str = script!(
    "local hers,at,most,out,from=ARGV[3]..':p:'..n..':'..ARGV[4],tonumber(ARGV[5]),tonumber(ARGV[6]),{},0",
    "while #out<most do",
    "local ids=redis.call('ZREVRANGE',hers,from,from+199)",
    "for _,id in ipairs(ids) do",
    "local key=ARGV[3]..':f:'..id",
    "local f=redis.call('HMGET',key,'epoch','idle_end','end')",
    "if #out<most and f[1]==n and f[2] and f[3] and at<tonumber(f[2]) and at<tonumber(f[3]) then",
    "out[#out+1]=redis.call('HGETALL',key) end end",
    "from=from+200",
    "if #ids<200 then break end end",
    "return out",
);

/// Keys: the lane, the revocation. Values: when, until when it is remembered.
const REVOKE: &str = script!(keep!(), revoke!(), "revoke(KEYS[2],ARGV[3],ARGV[4])", "return 1",);

/// Keys: the lane, and the revocations of the token, the family, the person, the realm. Values: when it was issued, -1 if
/// nobody knows, and now.
const IS_REVOKED: &str = script!(
    known!(),
    "local issued,now=tonumber(ARGV[3]),tonumber(ARGV[4])",
    // The server knows nothing of what was before.
    "if issued>=0 and issued<tonumber(s[3] or '0') then return 1 end",
    "for i=2,5 do",
    "local r=redis.call('HMGET',KEYS[i],'at','until')",
    "if r[1] and r[2] and tonumber(r[2])>now and (i<4 or tonumber(r[1])>=issued) then return 1 end end",
    "return 0",
);

/// Keys: the lane, what is due. Values: what the lane's keys begin with, when, the most.
const CLEAN: &str = script!(
    known!(),
    "local due=redis.call('ZRANGEBYSCORE',KEYS[2],'-inf',ARGV[4],'LIMIT',0,ARGV[5])",
    "for _,m in ipairs(due) do",
    "local realm,id=string.match(m,'^([^:]*):(%x+)$')",
    "if realm then",
    "local front=ARGV[3]..realm",
    "local key=front..':f:'..id",
    "if is(key,'hash') then",
    "local f=redis.call('HMGET',key,'login','epoch')",
    "if f[1] and f[2] then",
    "local hers,live=front..':p:'..f[2]..':'..f[1],front..':l:'..f[2]",
    "if is(hers,'zset') then redis.call('ZREM',hers,id) end",
    "if is(live,'set') then redis.call('SREM',live,id) end end",
    "redis.call('UNLINK',key) end end",
    "redis.call('ZREM',KEYS[2],m) end",
    "return #due",
);

/// Notes a life of the server. Keys: the lane. Values: the life, nothing, when, and 1 if a new life may have lost
/// something.
const ADOPT: &str = script!(
    "if s[1]==ARGV[1] then return 1 end",
    // Of two clocks the one that is behind: no clock that is ahead makes refused what comes yet.
    "local t=redis.call('TIME') local at=whole(math.min(tonumber(ARGV[3]),t[1]*1000))",
    "local since=s[3] or at",
    "if s[1] and ARGV[4]=='1' and tonumber(since)<tonumber(at) then since=at end",
    "redis.call('HSET',KEYS[1],'life',ARGV[1],'since',since)",
    "return 1",
);

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) begin: Script,
    pub(super) family: Script,
    pub(super) renew: Script,
    pub(super) retry: Script,
    pub(super) confirm: Script,
    pub(super) end_family: Script,
    pub(super) end_person: Script,
    pub(super) end_realm: Script,
    pub(super) sessions: Script,
    pub(super) revoke: Script,
    pub(super) is_revoked: Script,
    pub(super) clean: Script,
    pub(super) adopt: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            begin: Script::new(BEGIN),
            family: Script::new(FAMILY),
            renew: Script::new(RENEW),
            retry: Script::new(RETRY),
            confirm: Script::new(CONFIRM),
            end_family: Script::new(END_FAMILY),
            end_person: Script::new(END_PERSON),
            end_realm: Script::new(END_REALM),
            sessions: Script::new(SESSIONS),
            revoke: Script::new(REVOKE),
            is_revoked: Script::new(IS_REVOKED),
            clean: Script::new(CLEAN),
            adopt: Script::new(ADOPT),
        }
    }
}

//! The changes, each one script: the server runs it as a whole, and nothing else meanwhile.
//!
//! A server does not undo a script that fails half-way. So each looks at everything first, the kinds of the keys
//! included, and then writes; its first write is one that a server without memory refuses. That first write notes under
//! the change's own name what comes of it: the same change, sent again since its answer was lost, is answered with that
//! and does nothing.
//!
//! Keys: the note, the store's mark, and those of the change. Values: the store's mark as it must be, for how long the
//! note is kept in milliseconds, what all keys begin with, and those of the change.

use crate::script::Script;

/// Everything was so already, or what was to be replaced is another by now.
pub(crate) const UNCHANGED: i64 = 0;
/// It was changed.
pub(crate) const DONE: i64 = 1;
/// The person or the object is not there.
pub(crate) const NOT_FOUND: i64 = 2;
/// Nobody has declared the domain.
pub(crate) const UNDECLARED: i64 = 3;
/// The server has another store by now, or none.
pub(crate) const OTHER_STORE: i64 = 4;
/// A key is of another kind, or a person has no id.
pub(crate) const CORRUPT: i64 = 5;

macro_rules! change {
    ($($line:literal)+) => {
        concat!(
            "local note=redis.call('GET',KEYS[1]) if note then return tonumber(note) end ",
            "if redis.call('GET',KEYS[2])~=ARGV[1] then return 4 end ",
            "local function is(key,kind) local t=redis.call('TYPE',key)['ok'] return t==kind or t=='none' end ",
            "local function note(code) redis.call('SET',KEYS[1],code,'PX',ARGV[2]) return code end ",
            $($line, "\n"),+
        )
    };
}

/// Keys: the user, the list of users, the list of groups, the person's groups. Values: login, id, hash, scheme, groups.
const ADD_USER: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'zset') and is(KEYS[5],'zset') and is(KEYS[6],'set')) then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==1 then return note(0) end"
    "if redis.call('EXISTS',KEYS[6])==1 then return 5 end"
    "note(1)"
    "redis.call('HSET',KEYS[3],'login',ARGV[4],'id',ARGV[5])"
    "if ARGV[6]~='' then redis.call('HSET',KEYS[3],'hash',ARGV[6]) end"
    "if ARGV[7]~='' then redis.call('HSET',KEYS[3],'scheme',ARGV[7]) end"
    "redis.call('ZADD',KEYS[4],0,ARGV[4])"
    "redis.call('SADD',KEYS[6],'')"
    "for i=8,#ARGV do redis.call('SADD',KEYS[6],ARGV[i]) redis.call('ZADD',KEYS[5],0,ARGV[i]) end"
    "return 1"
);

/// Keys: the user. Values: hash, scheme.
const SET_HASH: &str = change!(
    "if not is(KEYS[3],'hash') then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local old=redis.call('HMGET',KEYS[3],'hash','scheme')"
    "if old[1]==ARGV[4] and (old[2] or '')==ARGV[5] then return note(0) end"
    "note(1)"
    "redis.call('HSET',KEYS[3],'hash',ARGV[4])"
    "if ARGV[5]=='' then redis.call('HDEL',KEYS[3],'scheme') else redis.call('HSET',KEYS[3],'scheme',ARGV[5]) end"
    "return 1"
);

/// Keys: the user. Values: id, the old hash, the new one, its scheme.
const REPLACE_HASH: &str = change!(
    "if not is(KEYS[3],'hash') then return 5 end"
    "local old=redis.call('HMGET',KEYS[3],'id','hash')"
    "if old[1]~=ARGV[4] or old[2]~=ARGV[5] then return note(0) end"
    "note(1)"
    "redis.call('HSET',KEYS[3],'hash',ARGV[6])"
    "if ARGV[7]=='' then redis.call('HDEL',KEYS[3],'scheme') else redis.call('HSET',KEYS[3],'scheme',ARGV[7]) end"
    "return 1"
);

/// Keys: the user. Values: fields, each with its value; one without is removed.
const SET_STATE: &str = change!(
    "if not is(KEYS[3],'hash') then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local flags={disabled=true,locked=true,must_change=true}"
    "local same=true"
    "for i=4,#ARGV,2 do"
    "local old=redis.call('HGET',KEYS[3],ARGV[i]) or ''"
    "if flags[ARGV[i]] then if old=='0' or old=='false' then old='' elseif old=='true' then old='1' end end"
    "if old~=ARGV[i+1] then same=false end"
    "end"
    "if same then return note(0) end"
    "note(1)"
    "for i=4,#ARGV,2 do"
    "if ARGV[i+1]=='' then redis.call('HDEL',KEYS[3],ARGV[i]) else redis.call('HSET',KEYS[3],ARGV[i],ARGV[i+1]) end"
    "end"
    "return 1"
);

/// Keys: the user, the list of users. Values: login.
const DELETE_USER: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'zset')) then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local id=redis.call('HGET',KEYS[3],'id')"
    "if not id or id=='' then return 5 end"
    "local groups,rights=ARGV[3]..'groups:'..id,ARGV[3]..'rights:'..id"
    "if not(is(groups,'set') and is(rights,'set')) then return 5 end"
    "local objects=redis.call('SMEMBERS',rights)"
    "for _,o in ipairs(objects) do if not is(ARGV[3]..'object:'..o,'hash') then return 5 end end"
    "note(1)"
    "for _,o in ipairs(objects) do redis.call('HDEL',ARGV[3]..'object:'..o,id) end"
    "redis.call('DEL',KEYS[3],groups,rights)"
    "redis.call('ZREM',KEYS[4],ARGV[4])"
    "return 1"
);

/// Keys: the user, the list of groups. Values: group.
const JOIN: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'zset')) then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local id=redis.call('HGET',KEYS[3],'id')"
    "if not id or id=='' then return 5 end"
    "local groups=ARGV[3]..'groups:'..id"
    "if not is(groups,'set') then return 5 end"
    "if redis.call('SISMEMBER',groups,ARGV[4])==1 then return note(0) end"
    "note(1)"
    "redis.call('SADD',groups,'',ARGV[4])"
    "redis.call('ZADD',KEYS[4],0,ARGV[4])"
    "return 1"
);

/// Keys: the user. Values: group.
const LEAVE: &str = change!(
    "if not is(KEYS[3],'hash') then return 5 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local id=redis.call('HGET',KEYS[3],'id')"
    "if not id or id=='' then return 5 end"
    "local groups=ARGV[3]..'groups:'..id"
    "if not is(groups,'set') then return 5 end"
    "if redis.call('SISMEMBER',groups,ARGV[4])==0 then return note(0) end"
    "note(1)"
    // Who is in no group is known all the same.
    "redis.call('SADD',groups,'')"
    "redis.call('SREM',groups,ARGV[4])"
    "return 1"
);

/// Keys: the object, the list of domains. Values: domain.
const ADD_OBJECT: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'zset')) then return 5 end"
    "if redis.call('HEXISTS',KEYS[3],'')==1 and redis.call('ZSCORE',KEYS[4],ARGV[4]) then return note(0) end"
    "note(1)"
    "redis.call('HSET',KEYS[3],'','1')"
    "redis.call('ZADD',KEYS[4],0,ARGV[4])"
    "return 1"
);

/// Keys: the object, the list of domains. Values: domain, the object's name.
const DELETE_OBJECT: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'zset')) then return 5 end"
    "if not redis.call('ZSCORE',KEYS[4],ARGV[4]) then return 3 end"
    "if redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local ids=redis.call('HKEYS',KEYS[3])"
    "for _,id in ipairs(ids) do if not is(ARGV[3]..'rights:'..id,'set') then return 5 end end"
    "note(1)"
    "for _,id in ipairs(ids) do if id~='' then redis.call('SREM',ARGV[3]..'rights:'..id,ARGV[5]) end end"
    "redis.call('DEL',KEYS[3])"
    "return 1"
);

/// Keys: the user, the object, the list of domains. Values: domain, the object's name, mode, and 1 to grant it.
const RIGHT: &str = change!(
    "if not(is(KEYS[3],'hash') and is(KEYS[4],'hash') and is(KEYS[5],'zset')) then return 5 end"
    "if not redis.call('ZSCORE',KEYS[5],ARGV[4]) then return 3 end"
    "if redis.call('HEXISTS',KEYS[4],'')==0 or redis.call('EXISTS',KEYS[3])==0 then return note(2) end"
    "local id=redis.call('HGET',KEYS[3],'id')"
    "if not id or id=='' then return 5 end"
    "local rights=ARGV[3]..'rights:'..id"
    "if not is(rights,'set') then return 5 end"
    "local modes,has={},false"
    "for mode in string.gmatch(redis.call('HGET',KEYS[4],id) or '','[^\\n]+') do"
    "if mode==ARGV[6] then has=true else modes[#modes+1]=mode end"
    "end"
    "if has==(ARGV[7]=='1') then return note(0) end"
    "note(1)"
    "if ARGV[7]=='1' then modes[#modes+1]=ARGV[6] end"
    "if #modes>0 then"
    "redis.call('HSET',KEYS[4],id,table.concat(modes,'\\n')) redis.call('SADD',rights,ARGV[5])"
    "else"
    "redis.call('HDEL',KEYS[4],id) redis.call('SREM',rights,ARGV[5])"
    "end"
    "return 1"
);

/// Does everything that changes do, to keys of a name that nobody has. Leaves nothing behind, and nothing for longer
/// than ten seconds where the user may not remove it. Keys: a hash, a set, a sorted set, a string.
const TRY: &str = "\
for i=1,4 do redis.call('PEXPIRE',KEYS[i],10000) end \
redis.call('TYPE',KEYS[1]) redis.call('EXISTS',KEYS[1]) redis.call('HKEYS',KEYS[1]) redis.call('HEXISTS',KEYS[1],'a') \
redis.call('SISMEMBER',KEYS[2],'a') redis.call('HDEL',KEYS[1],'a') redis.call('SREM',KEYS[2],'a') \
redis.call('ZREM',KEYS[3],'a') redis.call('DEL',KEYS[1],KEYS[2],KEYS[3],KEYS[4]) \
redis.call('SET',KEYS[4],'a','PX',10000) \
redis.call('HSET',KEYS[1],'a','b') redis.call('PEXPIRE',KEYS[1],10000) \
redis.call('SADD',KEYS[2],'a') redis.call('PEXPIRE',KEYS[2],10000) \
redis.call('ZADD',KEYS[3],0,'a') redis.call('PEXPIRE',KEYS[3],10000) \
redis.call('DEL',KEYS[1],KEYS[2],KEYS[3],KEYS[4]) \
return 1";

/// All of them.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) add_user: Script,
    pub(crate) set_hash: Script,
    pub(crate) replace_hash: Script,
    pub(crate) set_state: Script,
    pub(crate) delete_user: Script,
    pub(crate) join: Script,
    pub(crate) leave: Script,
    pub(crate) add_object: Script,
    pub(crate) delete_object: Script,
    pub(crate) right: Script,
    pub(crate) trial: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            add_user: Script::new(ADD_USER),
            set_hash: Script::new(SET_HASH),
            replace_hash: Script::new(REPLACE_HASH),
            set_state: Script::new(SET_STATE),
            delete_user: Script::new(DELETE_USER),
            join: Script::new(JOIN),
            leave: Script::new(LEAVE),
            add_object: Script::new(ADD_OBJECT),
            delete_object: Script::new(DELETE_OBJECT),
            right: Script::new(RIGHT),
            trial: Script::new(TRY),
        }
    }
}

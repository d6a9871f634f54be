//! The command line: what can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Answers who a login is, and what it may do.
#[derive(Debug, Parser)]
#[command(name = "gatepost", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The configuration file (else GATEPOST_CONFIG; without any, an embedded store).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON object, or one a line for lists.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Compose a stack here, although a server may be running.
    #[arg(long, global = true)]
    pub(crate) local: bool,
    #[command(subcommand)]
    pub(crate) command: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve forward-auth, health and metrics over HTTP, and the admin socket.
    Serve,
    /// Ask a question: exit status 0 yes, 1 no, 3 could not find out.
    #[command(subcommand)]
    Check(CheckVerb),
    /// Show and change users.
    #[command(subcommand)]
    User(UserVerb),
    /// Show and change groups.
    #[command(subcommand)]
    Group(GroupVerb),
    /// Change objects and the rights on them.
    #[command(subcommand)]
    Object(ObjectVerb),
    /// Make or verify a password hash, outside any configuration; the password comes from standard input.
    Hash(HashArgs),
    /// Show what the caches did, and make them ask again.
    #[command(subcommand)]
    Cache(CacheVerb),
    /// Show the sources: up or down, since when, the last error, how long the caches leave them alone.
    Sources,
    /// Look after SQL sources.
    #[command(subcommand)]
    Sql(SqlVerb),
    /// Have the running server read its configuration anew: if that fails, the one before stays in force.
    Reload,
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look at directories.
    #[command(subcommand)]
    Ldap(LdapVerb),
    /// Print a snippet of configuration for the software in front.
    #[command(subcommand)]
    Print(PrintVerb),
}

/// Where a login is named.
#[derive(Debug, Args)]
pub(crate) struct InRealm {
    /// The realm (else `server.realm`: the only one, or `default`).
    #[arg(long)]
    pub(crate) realm: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Show every step.
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckVerb {
    /// Is this the password of LOGIN? It comes from standard input.
    Password {
        login: String,
        #[command(flatten)]
        realm: InRealm,
        #[command(flatten)]
        explain: Explain,
    },
    /// Is LOGIN in GROUP?
    Group {
        login: String,
        group: String,
        #[command(flatten)]
        realm: InRealm,
        #[command(flatten)]
        explain: Explain,
    },
    /// May LOGIN do MODE (or anything) with the object?
    Object {
        login: String,
        domain: String,
        id: String,
        mode: Option<String>,
        #[command(flatten)]
        realm: InRealm,
        #[command(flatten)]
        explain: Explain,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SqlVerb {
    /// Have a PostgreSQL database tell of changes in a source's tables, whoever makes them, so that caches forget at
    /// once. Run it as the owner of the tables; a running server follows after `gatepost reload`.
    InstallTriggers {
        /// The source (else the only one that can tell).
        #[arg(long)]
        source: Option<String>,
        /// Print the statements instead of running them.
        #[arg(long)]
        print: bool,
        /// Take the triggers away.
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserVerb {
    /// Add a user; the password comes from standard input unless --hash gives a ready hash.
    Add {
        login: String,
        /// Put the user in this group, which is made if need be; may be repeated.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// A ready hash instead of a password.
        #[arg(long)]
        hash: Option<String>,
        /// The scheme of the hash, where it does not name its own.
        #[arg(long, requires = "hash")]
        scheme: Option<String>,
        #[command(flatten)]
        realm: InRealm,
    },
    /// List all users.
    List {
        #[command(flatten)]
        realm: InRealm,
    },
    /// Show a user and their groups.
    Show {
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Set a new password, from standard input.
    Passwd {
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Lock a user out.
    Lock {
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Let a locked user in again.
    Unlock {
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Delete a user with their memberships and rights.
    Delete {
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Import users that are not there yet.
    #[command(subcommand)]
    Import(ImportVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportVerb {
    /// From an Apache password file.
    Htpasswd {
        file: PathBuf,
        /// The htgroup file.
        #[arg(long)]
        groups: Option<PathBuf>,
        #[command(flatten)]
        realm: InRealm,
    },
    /// From a file like /etc/passwd. Who has no password is left out.
    Passwd {
        file: PathBuf,
        /// The file like /etc/shadow, where the hashes are.
        #[arg(long)]
        shadow: Option<PathBuf>,
        /// The file like /etc/group.
        #[arg(long)]
        groups: Option<PathBuf>,
        #[command(flatten)]
        realm: InRealm,
    },
    /// From a file like /etc/shadow. Who has no password is left out.
    Shadow {
        file: PathBuf,
        /// The file like /etc/group.
        #[arg(long)]
        groups: Option<PathBuf>,
        #[command(flatten)]
        realm: InRealm,
    },
    /// From a TOML user file; its objects are left out.
    Toml {
        file: PathBuf,
        #[command(flatten)]
        realm: InRealm,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupVerb {
    /// Put a user in a group, which is made if need be.
    Add {
        login: String,
        group: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Take a user out of a group.
    Remove {
        login: String,
        group: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// List all groups, or those of a user.
    List {
        login: Option<String>,
        #[command(flatten)]
        realm: InRealm,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ObjectVerb {
    /// Add an object and declare its domain.
    Add {
        domain: String,
        id: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Delete an object with all rights on it.
    Delete {
        domain: String,
        id: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Grant a user a right on an object.
    Grant {
        login: String,
        domain: String,
        id: String,
        mode: String,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Revoke a user's right on an object.
    Revoke {
        login: String,
        domain: String,
        id: String,
        mode: String,
        #[command(flatten)]
        realm: InRealm,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HashArgs {
    /// Verify against this hash: exit status 0 right, 1 wrong, 2 unreadable.
    #[arg(long, value_name = "HASH", allow_hyphen_values = true)]
    pub(crate) verify: Option<String>,
    /// The scheme: argon2 (default) or bcrypt for new hashes; any known name to verify.
    #[arg(long)]
    pub(crate) scheme: Option<String>,
    /// The login, for schemes that are salted with it.
    #[arg(long, default_value = "")]
    pub(crate) login: String,
    /// The realm, for HTTP digest.
    #[arg(long, default_value = "")]
    pub(crate) realm: String,
    /// The time in seconds since 1970, for one-time codes; now unless given.
    #[arg(long)]
    pub(crate) now: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Show what each cache did since the start, and how old its answers were.
    Stats,
    /// Make the caches ask the sources again; nothing old stands in.
    Expire(About),
    /// The same, and forget which source knew whom.
    Flush(About),
}

/// What the caches shall ask again or forget.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct About {
    /// Everything about this login.
    #[arg(long, value_name = "LOGIN")]
    pub(crate) user: Option<String>,
    /// Every set of groups of the realm: GROUP has changed, its members are not named.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Every right on this object.
    #[arg(long, value_name = "DOMAIN:ID")]
    pub(crate) object: Option<String>,
    /// The realm that the others are about; alone, everything of it.
    #[arg(long)]
    pub(crate) realm: Option<String>,
    /// Everything.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Check the configuration; exit status 2 says what is wrong and where.
    Check {
        /// Ask every source a question as well.
        #[arg(long)]
        probe: bool,
    },
    /// Print the composed configuration, secrets masked.
    Show,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum PrintVerb {
    /// For nginx's auth_request.
    Nginx,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LdapVerb {
    /// Look at a directory server, and propose a source for it with the reasons; outside any configuration.
    Probe(LdapProbe),
}

#[derive(Debug, Args)]
pub(crate) struct LdapProbe {
    /// Where it is: ldaps://, ldap:// or ldapi://.
    pub(crate) url: String,
    /// As whom to look; the password comes from standard input.
    #[arg(long, value_name = "DN")]
    pub(crate) bind_dn: Option<String>,
    /// Whom to trust (else whom the system trusts).
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Begin TLS on ldap:// before anything else.
    #[arg(long)]
    pub(crate) starttls: bool,
    /// Let the password go to another machine in clear.
    #[arg(long, conflicts_with_all = ["starttls", "ca"])]
    pub(crate) in_clear: bool,
}

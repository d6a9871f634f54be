//! The command line: what can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Make, show, check and rotate keys.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Issue, verify and revoke access tokens; list and end sessions.
    #[command(subcommand)]
    Token(TokenVerb),
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
    /// Is this access token good, and whose is it?
    Token {
        /// The token; `-` reads it from standard input.
        token: String,
        /// Ask everything anew, whatever memory says.
        #[arg(long)]
        fresh: bool,
        #[command(flatten)]
        realm: InRealm,
        #[command(flatten)]
        explain: Explain,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// Issue an access token for LOGIN, without a session.
    Issue {
        #[arg(long)]
        login: String,
        /// What it is good for; may be repeated. All that is configured if it is not said.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is good: 90s, 10m, 24h. What is configured if it is not said.
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
        #[command(flatten)]
        realm: InRealm,
    },
    /// Revoke an access token, end a session, or all of a login or of the realm.
    Revoke(RevokeArgs),
    /// List the live sessions of LOGIN.
    List {
        #[arg(long)]
        login: String,
        #[command(flatten)]
        realm: InRealm,
    },
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["token", "session", "login", "all"])]
pub(crate) struct RevokeArgs {
    /// The access token; `-` reads it from standard input.
    pub(crate) token: Option<String>,
    /// A session, as `token list` shows it.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// All sessions and access tokens of a login.
    #[arg(long)]
    pub(crate) login: Option<String>,
    /// All sessions and access tokens of the realm.
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) realm: InRealm,
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

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kty {
    /// A secret, for HMAC.
    #[value(name = "oct")]
    Oct,
    /// Ed25519.
    #[value(name = "OKP", alias = "okp")]
    Okp,
    /// A curve of NIST, for ECDSA.
    #[value(name = "EC", alias = "ec")]
    Ec,
    /// RSA.
    #[value(name = "RSA", alias = "rsa")]
    Rsa,
}

/// What a key is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyUse {
    Import,
    Verify,
    Sign,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a key, as a JWK in one line.
    New {
        /// Its kind; of `--alg` unless given, else OKP.
        #[arg(long)]
        kty: Option<Kty>,
        /// What it is for: HS256 to HS512, RS256 to PS512, ES256 to ES512, EdDSA.
        #[arg(long)]
        alg: Option<String>,
        /// The curve of an EC key: P-256 (default), P-384 or P-521.
        #[arg(long)]
        crv: Option<String>,
        /// How many bits an RSA key has: 2048 (default), 3072, 4096 or 8192.
        #[arg(long)]
        bits: Option<u32>,
        /// Its name (else its thumbprint; a secret has none unless `--alg` is given).
        #[arg(long)]
        kid: Option<String>,
    },
    /// Print the public half of a key, or of each key of a set: JWK, JWKS or PEM.
    Public {
        /// The file; `-` is standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Print the thumbprint of a key (RFC 7638, SHA-256).
    Thumbprint {
        /// The file; `-` is standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Make a key for Fernet.
    Fernet,
    /// May this key, or this published set, be imported? Exit status 0 yes, 1 no.
    Check {
        /// The file: JWK, JWKS or PEM; `-` is standard input.
        file: PathBuf,
        /// What for.
        #[arg(long = "for", value_name = "USE", default_value = "import")]
        purpose: KeyUse,
        /// Take secrets that are too short.
        #[arg(long)]
        allow_weak_key: bool,
    },
    /// List the keys that access tokens are signed and verified with, as configured.
    List,
    /// Have another key follow: in the folder that is configured, as is configured there, or in another one.
    Rotate {
        /// The folder, outside any configuration.
        #[arg(long)]
        folder: Option<PathBuf>,
        /// What the new key is for (else what the current one is).
        #[arg(long, requires = "folder")]
        alg: Option<String>,
        /// For how long it is published before it signs.
        #[arg(long, value_name = "TIME", default_value = "24h", requires = "folder")]
        publish: String,
        /// For how long the one before is kept after it has signed for the last time.
        #[arg(long, value_name = "TIME", default_value = "90m", requires = "folder")]
        keep: String,
        /// Sign with it at once.
        #[arg(long)]
        at_once: bool,
        /// A key is in wrong hands: sign with the new one at once, and believe no other.
        #[arg(long, conflicts_with = "at_once")]
        compromised: bool,
        /// The time in seconds since 1970; now unless given.
        #[arg(long, requires = "folder")]
        now: Option<u64>,
    },
}

impl KeyVerb {
    /// Reports whether it is about the keys of a configuration.
    pub(crate) const fn is_configured(&self) -> bool {
        matches!(self, Self::List | Self::Rotate { folder: None, .. })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Verify a token outside any configuration: exit status 0 valid, 1 invalid.
    Verify(Box<TokenVerify>),
    #[command(flatten)]
    Session(SessionVerb),
}

/// What a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenType {
    /// FlaskSimpleAuth's.
    Fsa,
    /// A JWT.
    Jwt,
}

#[derive(Debug, Args)]
pub(crate) struct TokenVerify {
    /// The token; `-` is standard input, of which one final line feed is removed.
    #[arg(allow_hyphen_values = true)]
    pub(crate) token: String,
    /// What it looks like.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: TokenType,
    /// fsa: where it holds.
    #[arg(long, required_if_eq("kind", "fsa"))]
    pub(crate) realm: Option<String>,
    /// fsa: the file of the secret, of which one final line end is removed.
    #[arg(long, value_name = "FILE", required_if_eq("kind", "fsa"))]
    pub(crate) secret_file: Option<PathBuf>,
    /// fsa: what it is signed with.
    #[arg(long, default_value = "blake2s")]
    pub(crate) algo: String,
    /// fsa: to how many bytes the signature is cut.
    #[arg(long, default_value_t = 16)]
    pub(crate) length: usize,
    /// fsa: for how long after its end it is still taken.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) grace: String,
    /// jwt: the file of the keys: a set, one key, or PEM.
    #[arg(long, value_name = "FILE", required_if_eq("kind", "jwt"))]
    pub(crate) jwks: Option<PathBuf>,
    /// jwt: an algorithm that is accepted; may be repeated. Those of the keys unless given.
    #[arg(long, num_args = 1..)]
    pub(crate) alg: Vec<String>,
    /// Who must have made it.
    #[arg(long)]
    pub(crate) issuer: Option<String>,
    /// jwt: for whom it must have been made. Unless given, a token that is for somebody in particular is refused.
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// jwt: a kind that is accepted; may be repeated. Unchecked unless given.
    #[arg(long, num_args = 1..)]
    pub(crate) typ: Vec<String>,
    /// jwt: how much clocks may differ.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) leeway: String,
    /// jwt: a claim that must be there; may be repeated. `exp` always must.
    #[arg(long, value_name = "CLAIM", num_args = 1..)]
    pub(crate) require: Vec<String>,
    /// jwt: the longest token.
    #[arg(long, default_value_t = 8192)]
    pub(crate) max_bytes: usize,
    /// jwt: take secrets of less than 32 bytes.
    #[arg(long)]
    pub(crate) allow_weak_key: bool,
    /// jwt: check the signature alone; the payload may be anything.
    #[arg(long)]
    pub(crate) signature_only: bool,
    /// The time in seconds since 1970; now unless given.
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

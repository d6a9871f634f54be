//! Tokens of FlaskSimpleAuth 36 and PyJWT are good here, and those made here are good there.
//!
//! They are installed from PyPI, once, into a virtual environment under the target folder.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use integration_tests::{Gatepost, get, skipped};
use serde_json::{Value, json};

const PACKAGES: [&str; 3] = ["FlaskSimpleAuth[jwt]==36.*", "PyJWT[crypto]", "Flask"];
const SECRET: &str = "the-quick-brown-fox-secret-2099!";
const ISSUER: &str = "https://id.example.org";

static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("flask-simple-auth-36");
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if !whole.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES));
        std::fs::write(whole, "").unwrap();
    }
    python
});

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `peers/tokens.py`, which ends with its standard input.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start(verb: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/tokens.py");
        let mut command = Command::new(&*PYTHON);
        command.arg("-B").arg(script).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, line: &Value) -> Value {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{line}: {answer:?}"))
    }

    #[track_caller]
    fn told(&mut self, job: &Value) -> Value {
        let answer = self.ask(job);
        assert!(answer["error"].is_null(), "{job}: {answer}");
        answer["ok"].clone()
    }

    #[track_caller]
    fn text(&mut self, job: &Value) -> String {
        self.told(job).as_str().unwrap().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// An application on a port of its own that FlaskSimpleAuth protects.
struct Application {
    _peer: Peer,
    address: SocketAddr,
}

impl Application {
    fn start(config: &Value) -> Self {
        let mut peer = Peer::start("serve");
        let port = peer.ask(config).as_u64().unwrap();
        Self { _peer: peer, address: (Ipv4Addr::LOCALHOST, port.try_into().unwrap()).into() }
    }

    /// Who it says that somebody with this token is; the status if it says no.
    fn who(&self, token: &str) -> Result<String, u16> {
        let bearer = format!("Bearer {token}");
        let response = get(self.address, "/who", &[("Authorization", &bearer)]);
        let body = || serde_json::from_str::<Value>(&response.body).unwrap();
        if response.status == 200 {
            Ok(body()["user"].as_str().unwrap().into())
        } else {
            Err(response.status)
        }
    }

    /// Demands that a token is calvin's, and that none is that was made of it.
    #[track_caller]
    fn takes(&self, token: &str) {
        assert_eq!(self.who(token), Ok("calvin".to_owned()));
        for wrong in tampered(token) {
            assert_eq!(self.who(&wrong), Err(401), "{wrong}");
        }
        assert_eq!(get(self.address, "/who", &[]).status, 401);
    }
}

/// Tokens that were not issued: with another byte in the signature, one less, and one more.
fn tampered(token: &str) -> [String; 3] {
    let at = token.len() - 10;
    let other = if token.as_bytes()[at] == b'0' { "1" } else { "0" };
    [
        format!("{}{other}{}", &token[..at], &token[at + 1..]),
        token[..token.len() - 2].to_owned(),
        format!("{token}00"),
    ]
}

/// What a command says to a token, and to none that was made of it.
#[track_caller]
fn says(gatepost: &Gatepost, args: &[&str], token: &str, decision: &str) {
    let exit = |token: &str| {
        let all: Vec<&str> = args.iter().map(|arg| if *arg == "TOKEN" { token } else { arg }).collect();
        let done = gatepost.run(&[&all[..], &["--json"]].concat());
        (done.exit, done.json())
    };
    let (status, row) = exit(token);
    assert_eq!(
        (status, &row["decision"]),
        (i32::from(decision != "valid"), &json!(decision)),
        "{args:?}: {row}"
    );
    if decision == "valid" {
        assert_eq!(row["login"], "calvin", "{row}");
    }
    for wrong in tampered(token) {
        let (status, row) = exit(&wrong);
        assert_eq!((status, &row["decision"]), (1, &json!("invalid")), "{wrong}: {row}");
    }
}

/// An installation where calvin is known.
fn with_calvin(config: &str) -> Gatepost {
    let gatepost = Gatepost::with_config(config);
    gatepost.must(&["user", "add", "calvin"], b"hobbes-and-susie");
    gatepost
}

#[track_caller]
fn issued(gatepost: &Gatepost) -> String {
    let row = gatepost.json(&["token", "issue", "--login", "calvin"], b"", 0);
    row["token"].as_str().unwrap().to_owned()
}

/// A line of the table: what was made by whom, and who took it.
fn shown(what: &str, made: &str, taken: &str) {
    // Past the test runner, which keeps what a passing test prints.
    let _ = writeln!(std::io::stderr(), "{what:<22} {made:<26} {taken}");
}

const CHECKED: &str = "gatepost token verify, gatepost check token";

#[test]
fn fsa_tokens_of_flask_simple_auth_are_good_here_and_ours_there() {
    if skipped("python") {
        return;
    }
    let mut peer = Peer::start("run");
    for (algo, length) in [("blake2s", 16), ("sha3_256", 20)] {
        let gatepost = with_calvin(&format!(
            "[token]\nformat = 'fsa'\n\
             fsa = {{ realm = 'acme', secret = '{SECRET}', algorithm = '{algo}', length = {length} }}\n"
        ));
        let _server = gatepost.serve();
        let config = json!({
            "FSA_REALM": "acme", "FSA_TOKEN_TYPE": "fsa", "FSA_TOKEN_SECRET": SECRET,
            "FSA_TOKEN_ALGO": algo, "FSA_TOKEN_LENGTH": length,
        });
        let secret = gatepost.write("secret", SECRET).display().to_string();
        let length = length.to_string();
        let verify =
            ["token", "verify", "TOKEN", "--type", "fsa", "--realm", "acme", "--secret-file", &secret];
        let verify = [&verify[..], &["--algo", algo, "--length", &length]].concat();
        let what = format!("fsa, {algo}, {length}");

        let theirs = peer.text(&json!({ "do": "made_by_fsa", "config": config, "user": "calvin" }));
        says(&gatepost, &verify, &theirs, "valid");
        says(&gatepost, &["check", "token", "TOKEN"], &theirs, "valid");
        shown(&what, "FlaskSimpleAuth 36", CHECKED);

        let ours = issued(&gatepost);
        says(&gatepost, &verify, &ours, "valid");
        Application::start(&config).takes(&ours);
        shown(&what, "gatepost token issue", "a Flask application with FlaskSimpleAuth 36");
    }
}

#[test]
fn jwts_of_flask_simple_auth_and_pyjwt_are_good_here_and_ours_there() {
    if skipped("python") {
        return;
    }
    let mut peer = Peer::start("run");
    for alg in ["HS256", "RS256", "ES256", "EdDSA"] {
        let key = if alg == "HS256" {
            json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": alg, "kid": "shared" })
        } else {
            Gatepost::new().json(&["key", "new", "--alg", alg], b"", 0)
        };
        let gatepost = with_calvin(&format!(
            "[token]\nissuer = '{ISSUER}'\naudience = 'acme'\n[token.keys]\nalgorithm = '{alg}'\nkey = '{key}'\n"
        ));
        let server = gatepost.serve();
        let published: Value = serde_json::from_str(&server.get("/.well-known/jwks.json").body).unwrap();
        // What both sides know: a secret, or what is published.
        let mut config = json!({
            "FSA_REALM": "acme", "FSA_TOKEN_TYPE": "jwt", "FSA_TOKEN_ALGO": alg, "FSA_TOKEN_ISSUER": ISSUER,
        });
        let (known, name, value) = if alg == "HS256" {
            assert_eq!(published["keys"], json!([]), "a secret is never published");
            config["FSA_TOKEN_SECRET"] = json!(SECRET);
            (json!({ "keys": [key] }), "secret", json!(SECRET))
        } else {
            assert!(published["keys"][0]["d"].is_null());
            let halves = peer.told(&json!({ "do": "pem_of", "jwk": key }));
            for (name, half) in halves.as_object().unwrap() {
                config[name] = half.clone();
            }
            (published.clone(), "jwks", published.clone())
        };
        let file = gatepost.write("known.jwks", &known.to_string()).display().to_string();
        let verify = ["token", "verify", "TOKEN", "--type", "jwt", "--jwks", &file, "--alg", alg];
        let verify = [&verify[..], &["--issuer", ISSUER, "--audience", "acme", "--require", "sub"]].concat();
        let check = ["check", "token", "TOKEN"];

        // As an application makes one that is to be taken by a stack: the kind, the key, and when it was made.
        let theirs = peer.text(&json!({
            "do": "made_by_pyjwt", "alg": alg, "headers": { "typ": "at+jwt", "kid": key["kid"] },
            name.replace("jwks", "jwk"): if alg == "HS256" { value.clone() } else { key.clone() },
            "claims": { "sub": "calvin", "iss": ISSUER, "aud": "acme" },
        }));
        says(&gatepost, &verify, &theirs, "valid");
        says(&gatepost, &check, &theirs, "valid");
        shown(alg, "PyJWT", CHECKED);

        // FlaskSimpleAuth's say nothing of their kind, nor when they were made: no stack takes them for its own.
        let theirs = peer.text(&json!({ "do": "made_by_fsa", "config": config, "user": "calvin" }));
        says(&gatepost, &verify, &theirs, "valid");
        says(&gatepost, &check, &theirs, "invalid");
        shown(alg, "FlaskSimpleAuth 36", "gatepost token verify");

        let ours = issued(&gatepost);
        says(&gatepost, &verify, &ours, "valid");
        let mut read = json!({
            "do": "read_by_pyjwt", "alg": alg, name: value, "audience": "acme", "issuer": ISSUER, "token": ours,
        });
        assert_eq!(peer.told(&read)["sub"], "calvin");
        for wrong in tampered(&ours) {
            read["token"] = json!(wrong);
            let refused = peer.ask(&read);
            assert!(refused["error"].is_string(), "{refused}");
        }
        Application::start(&config).takes(&ours);
        let with = if alg == "HS256" { "the shared secret" } else { "the published key" };
        shown(alg, "gatepost token issue", &format!("PyJWT with {with}"));
        shown(alg, "gatepost token issue", "a Flask application with FlaskSimpleAuth 36");
    }
}

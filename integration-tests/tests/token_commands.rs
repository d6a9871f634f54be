//! Tokens and keys on the command line, outside any configuration: a contract.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use integration_tests::{Gatepost, in_parallel};
use serde_json::{Value, json};

const JWT: &str = include_str!("../data/jwt_jwk.json");
const FSA: &str = include_str!("../data/fsa_tokens.json");

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Keys as a verifier has them: public halves, but for secrets.
fn keys_of(all: &Value, verifier: &Value) -> String {
    let keys = texts(&verifier["keys"]).into_iter().map(|name| {
        let mut key = all["keys"][name].clone();
        if key["kty"] != "oct" {
            for name in ["d", "p", "q", "dp", "dq", "qi"] {
                key.as_object_mut().unwrap().remove(name);
            }
        }
        key
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

fn token_of(vector: &Value) -> String {
    if let Some(token) = vector["token"].as_str() {
        return token.to_owned();
    }
    let made = &vector["token_gen"];
    let text = |name: &str| made[name].as_str().unwrap();
    let count = usize::try_from(made["count"].as_u64().unwrap()).unwrap();
    format!("{}{}{}", text("prefix"), text("repeat").repeat(count), text("suffix"))
}

/// Runs `token verify`; the token goes over standard input if it can be no argument.
fn verify(gatepost: &Gatepost, token: &str, options: &[String]) -> (i32, Value) {
    let as_argument = token.len() < 100_000 && !token.contains('\0') && !token.starts_with('-');
    let given = if as_argument { token } else { "-" };
    let mut args = vec!["token", "verify", given];
    args.extend(options.iter().map(String::as_str));
    args.push("--json");
    let done = gatepost.run_with(&args, if as_argument { b"" } else { token.as_bytes() });
    assert!(matches!(done.exit, 0 | 1), "{done:?}");
    let row = done.json();
    (done.exit, row)
}

#[test]
fn every_token_vector_has_its_verdict_through_the_command() {
    let all = read(JWT);
    let gatepost = Gatepost::new();
    let vectors = all["jwt"].as_array().unwrap();
    for (name, verifier) in all["verifiers"].as_object().unwrap() {
        gatepost.write(&format!("{name}.jwks"), &keys_of(&all, verifier));
    }
    in_parallel(vectors, |vector| {
        let id = vector["id"].as_str().unwrap();
        let name = vector["verifier"].as_str().unwrap();
        let profile = &all["profiles"][vector["profile"].as_str().unwrap()];
        let now = vector["now"].as_u64().unwrap();
        let mut options = vec!["--type".to_owned(), "jwt".to_owned()];
        let file = gatepost.path(&format!("{name}.jwks")).display().to_string();
        let mut put = |option: &str, value: String| options.extend([option.to_owned(), value]);
        put("--jwks", file);
        put("--now", now.to_string());
        put("--leeway", format!("{}s", profile["leeway"]));
        texts(&all["verifiers"][name]["algs"]).into_iter().for_each(|alg| put("--alg", alg));
        for option in ["issuer", "audience"] {
            if let Some(value) = profile[&option[..3]].as_str() {
                put(
                    option.replace("issuer", "--issuer").replace("audience", "--audience").as_str(),
                    value.into(),
                );
            }
        }
        texts(&profile["typ_required"]).into_iter().for_each(|typ| put("--typ", typ));
        texts(&profile["require"]).into_iter().for_each(|claim| put("--require", claim));
        if name == "twopi" {
            options.push("--allow-weak-key".to_owned());
        }
        if vector["profile"] == "sig-only" {
            options.push("--signature-only".to_owned());
        }
        let (exit, row) = verify(&gatepost, &token_of(vector), &options);
        // Encryption is out of scope.
        let jwe = vector["group"] == "jwe";
        match if jwe { "reject" } else { vector["verdict"].as_str().unwrap() } {
            "accept" => {
                assert_eq!((exit, &row["decision"]), (0, &json!("valid")), "{id}: {row}");
                if vector["claims"].is_object() {
                    assert_eq!(row["claims"], vector["claims"], "{id}");
                    assert_eq!(row["login"], vector["claims"]["sub"], "{id}");
                }
                if vector["payload_utf8"].is_string() {
                    assert_eq!(row["payload"], vector["payload_utf8"], "{id}");
                }
            }
            "reject" => {
                assert_eq!((exit, &row["decision"]), (1, &json!("invalid")), "{id}: {row}");
                if !jwe && vector["error"].is_string() {
                    assert_eq!(row["error"], vector["error"], "{id}");
                }
            }
            _ => {}
        }
    });
}

#[test]
fn every_token_of_flask_simple_auth_has_its_verdict_through_the_command() {
    let all = read(FSA);
    let gatepost = Gatepost::new();
    in_parallel(all["vectors"].as_array().unwrap(), |vector| {
        let (name, config) = (vector["name"].as_str().unwrap(), &vector["config"]);
        let text = |name: &str| config[name].as_str().map(str::to_owned);
        let seconds = format!("{}s", config["grace_minutes"].as_f64().unwrap() * 60.0);
        let algo = text("algo").unwrap();
        let Some(secret) = text("secret") else { return };
        let mut options = vec!["--now".to_owned(), "1790000000".to_owned()];
        let mut put = |option: &str, value: String| options.extend([option.to_owned(), value]);
        put("--type", text("type").unwrap());
        text("issuer").into_iter().for_each(|issuer| put("--issuer", issuer));
        let of_fsa = config["type"] == "fsa";
        if of_fsa {
            let file = gatepost.write(&format!("{name}.secret"), &secret).display().to_string();
            put("--secret-file", file);
            put("--realm", text("realm").unwrap());
            put("--algo", algo);
            put("--length", config["length"].to_string());
            put("--grace", seconds);
        } else {
            use base64::Engine as _;
            let secret = if secret.starts_with("-----") {
                secret
            } else {
                let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
                json!({ "kty": "oct", "k": k }).to_string()
            };
            put("--jwks", gatepost.write(&format!("{name}.jwks"), &secret).display().to_string());
            put("--audience", text("realm").unwrap());
            put("--alg", algo);
            put("--leeway", seconds);
            put("--require", "sub".to_owned());
        }
        let token = vector["token"].as_str().unwrap();
        if name == "fsa-len0" {
            let mut args = vec!["token", "verify", token];
            args.extend(options.iter().map(String::as_str));
            let _ = gatepost.run(&args).expect(2);
            return;
        }
        let (exit, row) = verify(&gatepost, token, &options);
        // The one that is refused here besides: digits that are none of ASCII.
        let right = vector["v18"]["ok"] == true && name != "fsa-unicode-digits-limit";
        assert_eq!(exit == 0, right, "{name}: {row}");
        if exit == 0 {
            assert_eq!(
                (&row["login"], &row["expires"]),
                (&vector["v18"]["user"], &vector["v18"]["exp"]),
                "{name}"
            );
        }
    });
}

#[test]
fn every_key_vector_has_its_verdict_through_the_command() {
    let all = read(JWT);
    let gatepost = Gatepost::new();
    let check = |text: &str, vector: &Value, purpose: &str| {
        let done = gatepost.run_with(&["key", "check", "-", "--for", purpose, "--json"], text.as_bytes());
        let row = done.json();
        match vector["verdict"].as_str().unwrap() {
            "accept" => assert_eq!((done.exit, &row["decision"]), (0, &json!("ok")), "{vector}"),
            "reject" => {
                assert_eq!((done.exit, &row["decision"]), (1, &json!("refused")), "{vector}");
                assert!(row["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{row}");
            }
            _ => assert!(matches!(done.exit, 0 | 1), "{vector}"),
        }
        row
    };
    in_parallel(all["jwk"].as_array().unwrap(), |vector| {
        let text = vector["jwk"].to_string();
        let row = check(&text, vector, vector["purpose"].as_str().unwrap());
        if let Some(print) = vector["thumbprint_s256"].as_str() {
            assert_eq!(row["thumbprint"], print);
            let of = gatepost.run_with(&["key", "thumbprint"], text.as_bytes()).expect(0).stdout;
            assert_eq!(of.trim_end(), print);
            let public = gatepost.run_with(&["key", "public"], text.as_bytes());
            if vector["public"].is_null() {
                let _ = public.expect(2);
            } else {
                assert_eq!(read(&public.expect(0).stdout), vector["public"]);
            }
        }
    });
    for vector in all["jwk_text"].as_array().unwrap() {
        check(vector["text"].as_str().unwrap(), vector, "import");
    }
    for vector in all["jwks"].as_array().unwrap() {
        let row = check(&vector["jwks"].to_string(), vector, "import");
        if vector["usable_kids"].is_array() {
            assert_eq!(row["keys"], vector["usable_kids"]);
        }
    }
    for vector in all["thumbprints"].as_array().unwrap() {
        let print = gatepost.run_with(&["key", "thumbprint"], vector["jwk"].to_string().as_bytes()).expect(0);
        assert_eq!(print.stdout.trim_end(), vector["sha256"].as_str().unwrap());
    }
}

#[test]
fn new_keys_are_those_that_were_asked_for() {
    let gatepost = Gatepost::new();
    let new = |options: &[&str]| {
        let mut args = vec!["key", "new"];
        args.extend(options);
        let done = gatepost.run(&args).expect(0);
        assert_eq!(done.stdout.lines().count(), 1);
        let _ = gatepost.run_with(&["key", "check", "-", "--for", "sign"], done.stdout.as_bytes()).expect(0);
        read(&done.stdout)
    };
    // What `flask ampho sec-gen-key` prints.
    let secret = new(&["--kty", "oct"]);
    assert_eq!(secret.as_object().unwrap().keys().collect::<Vec<_>>(), ["k", "kty"]);
    assert_eq!((secret["k"].as_str().unwrap().len(), &secret["kty"]), (43, &json!("oct")));
    assert_ne!(secret["k"], new(&["--kty", "oct"])["k"]);
    let fields =
        |key: &Value| ["kty", "crv", "alg", "use"].map(|name| key[name].as_str().unwrap_or("").to_owned());
    assert_eq!(fields(&new(&[])), ["OKP", "Ed25519", "EdDSA", "sig"]);
    assert_eq!(fields(&new(&["--kty", "OKP"])), ["OKP", "Ed25519", "EdDSA", "sig"]);
    assert_eq!(fields(&new(&["--kty", "EC"])), ["EC", "P-256", "ES256", "sig"]);
    assert_eq!(fields(&new(&["--kty", "EC", "--crv", "P-384"])), ["EC", "P-384", "ES384", "sig"]);
    assert_eq!(fields(&new(&["--alg", "ES512"])), ["EC", "P-521", "ES512", "sig"]);
    assert_eq!(fields(&new(&["--kty", "RSA"])), ["RSA", "", "RS256", "sig"]);
    assert_eq!(fields(&new(&["--alg", "PS384", "--bits", "3072"])), ["RSA", "", "PS384", "sig"]);
    let named = new(&["--alg", "HS512", "--kid", "of 2026"]);
    assert_eq!((&named["kid"], named["k"].as_str().unwrap().len()), (&json!("of 2026"), 86));
    let fernet = gatepost.run(&["key", "fernet"]).expect(0).stdout;
    assert_eq!((fernet.trim_end().len(), fernet.trim_end().ends_with('=')), (44, true));
    for wrong in [
        &["--kty", "DSA"][..],
        &["--alg", "none"],
        &["--kty", "EC", "--alg", "RS256"],
        &["--kty", "oct", "--alg", "ES256"],
        &["--kty", "EC", "--crv", "P-257"],
        &["--kty", "RSA", "--bits", "1024"],
        &["--kty", "oct", "--bits", "8"],
    ] {
        let mut args = vec!["key", "new"];
        args.extend(wrong);
        let _ = gatepost.run(&args).expect(2);
    }
}

#[test]
fn keys_in_a_folder_follow_each_other() {
    let gatepost = Gatepost::new();
    let folder = gatepost.path("keys").display().to_string();
    let rotate = |more: &[&str], exit| {
        let mut args = vec!["key", "rotate", "--folder", folder.as_str()];
        args.extend(more);
        gatepost.json(&args, b"", exit)
    };
    assert_eq!(rotate(&[], 2)["error"], "invalid", "a folder without keys is a wrong folder");
    let ring = auth_token::RingConfig {
        algorithm: auth_token::Algorithm::Es256,
        ..auth_token::RingConfig::new(gatepost.path("keys"))
    };
    let at = |unix| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(unix);
    drop(auth_token::KeyRing::open(ring, at(1_800_000_000)).unwrap());
    let states = |row: &Value| {
        let keys = row["keys"].as_array().unwrap().iter();
        keys.map(|key| key["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let row = rotate(&["--now", "1800000000", "--publish", "1h"], 0);
    assert_eq!(
        (&row["state"], &row["alg"], &row["activates"]),
        (&json!("next"), &json!("ES256"), &json!(1_800_003_600))
    );
    assert_eq!(states(&row), ["next", "current"]);
    assert_eq!(rotate(&["--now", "1800000001"], 0)["kid"], row["kid"]);
    let row = rotate(&["--now", "1800003600", "--at-once", "--alg", "EdDSA", "--keep", "2h"], 0);
    assert_eq!((&row["state"], &row["alg"]), (&json!("current"), &json!("EdDSA")));
    assert_eq!(states(&row), ["current", "previous", "previous"]);
    assert_eq!(states(&rotate(&["--now", "1800003700", "--compromised"], 0)), ["current"]);
}

#[test]
fn what_is_wrong_besides_the_token_is_wrong_use() {
    let gatepost = Gatepost::new();
    let jwks = gatepost.write("keys.jwks", "{\"keys\":[]}").display().to_string();
    let secret = gatepost.write("secret", "the-quick-brown-fox-secret-2099!\n").display().to_string();
    let short = gatepost.write("short", "hobbes").display().to_string();
    let broken = gatepost.write("broken", "{").display().to_string();
    let run = |options: &str| {
        let mut args = vec!["token", "verify", "acme:calvin:20991231235959:b13fe2d843ff0ccd67ade67499e5a808"];
        args.extend(options.split(' '));
        gatepost.run(&args)
    };
    let fsa = format!("--type fsa --realm acme --secret-file {secret}");
    assert!(run(&fsa).expect(0).stdout.contains("calvin"));
    for wrong in [
        "--type fsa".to_owned(),
        "--type saml".to_owned(),
        format!("--type fsa --realm acme --secret-file {secret}.not-there"),
        format!("{fsa} --algo md4"),
        format!("{fsa} --length 7"),
        format!("{fsa} --grace soon"),
        format!("{fsa} --issuer a:b"),
        format!("--type fsa --realm ? --secret-file {secret}"),
        "--type jwt".to_owned(),
        format!("--type jwt --jwks {broken}"),
        format!("--type jwt --jwks {jwks}.not-there"),
        format!("--type jwt --jwks {jwks} --alg HS257"),
        format!("--type jwt --jwks {jwks} --leeway soon"),
    ] {
        let done = run(&wrong).expect(2);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{wrong}: {done:?}");
    }
    let done = run(&format!("--type fsa --realm acme --secret-file {short} --json")).expect(1);
    assert!(done.json()["warning"].is_string() && done.stderr.contains("warning"), "{done:?}");
    for token in ["", "-x", "--", "--type", " "] {
        // Whatever it looks like, it is a token: at the end behind what tells that.
        let mut args = vec!["token", "verify", "--type", "fsa", "--realm", "acme", "--secret-file", &secret];
        args.extend(["--", token]);
        let _ = gatepost.run(&args).expect(1);
    }
    let done = gatepost.run(&["token", "verify", "-x", "--type", "jwt", "--jwks", &jwks]).expect(1);
    assert!(done.stderr.contains("malformed"), "{done:?}");
    let done = run(&format!("--type jwt --jwks {jwks} --json")).expect(1);
    assert_eq!(done.json()["error"], "malformed");
}

#[test]
fn a_token_comes_over_standard_input_too() {
    let gatepost = Gatepost::new();
    let secret = gatepost.write("secret", "the-quick-brown-fox-secret-2099!").display().to_string();
    let args =
        ["token", "verify", "-", "--type", "fsa", "--realm", "acme", "--secret-file", &secret, "--json"];
    let token = "acme:calvin:20991231235959:b13fe2d843ff0ccd67ade67499e5a808";
    let exit = |input: &[u8]| gatepost.run_with(&args, input).exit;
    assert_eq!(exit(token.as_bytes()), 0);
    assert_eq!(exit(format!("{token}\n").as_bytes()), 0, "one line feed is the shell's");
    for wrong in ["\n\n", "\r\n", " ", "\0"] {
        assert_eq!(exit(format!("{token}{wrong}").as_bytes()), 1, "{wrong:?}");
    }
    assert_eq!(exit(b""), 1);
    assert_eq!(exit(&[0xff, 0xfe]), 1);
    let long = gatepost.run_with(&args, "a".repeat(5_000_000).as_bytes()).expect(1).json();
    assert_eq!(long["error"], "too_large");
}

#[test]
fn short_secrets_and_keys_that_can_not_be_used_are_told() {
    let all = read(JWT);
    let gatepost = Gatepost::new();
    let mut weak = all["keys"]["hs256-short16"].clone();
    weak["kid"] = json!("weak");
    let off =
        all["jwk"].as_array().unwrap().iter().find(|vector| vector["id"] == "jwk-ec-off-curve").unwrap();
    let file = gatepost.write("keys.jwks", &json!({"keys": [weak, off["jwk"]]}).to_string());
    let file = file.display().to_string();
    let token = |kid: &str| {
        use auth_token::{Algorithm, Jwk, Short, Signer};
        let key = Jwk::from_secret(&[7; 16], Algorithm::Hs256, Short::Accepted).unwrap().with_kid(kid);
        Signer::new(&key, None, None).unwrap().sign("{\"exp\":4102444799}").unwrap()
    };
    let run = |kid: &str, more: &[&str]| {
        let token = token(kid);
        let mut args = vec!["token", "verify", token.as_str(), "--type", "jwt", "--jwks", &file, "--json"];
        args.extend(more);
        gatepost.run(&args).expect(1).json()
    };
    let row = run("weak", &[]);
    assert_eq!((&row["error"], row["warnings"].as_array().unwrap().len()), (&json!("key"), 2), "{row}");
    assert_eq!(run("weak", &["--allow-weak-key"])["error"], "signature");
    assert_eq!(run("es256-a", &[])["error"], "key");
    assert_eq!(run("nobody", &[])["error"], "unknown_key");
}

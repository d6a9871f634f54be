//! The server: how it starts and stops, what it refuses, and what it never tells.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test says what is wrong"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use integration_tests::{
    Gatepost, Nginx, Response, basic, exchange, get, in_parallel, skipped, stopwatch, until,
};

const RIGHT: &str = "transmogrifier";
/// "hobbes", at a cost that lets many log in at once.
const CHEAP: &str = "$2b$04$tvJ/TIpZPc0ytdq1dfR36.IUbYKLRECoSPoZ7uHaaDwNVc4HisgAe";

/// The password that the first start prints.
fn printed_password(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.trim_start().starts_with("password "))?;
    line.split_whitespace().nth(1).map(str::to_owned)
}

#[test]
fn the_first_start_prints_an_administrator_once_and_the_second_is_quick() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let first = server.ready_after();
    until(|| server.said().contains("curl"), "the line to try is printed");
    let password = printed_password(&server.said()).expect("a password is printed");
    assert!(password.len() >= 20, "hard to guess");
    let told = format!("curl -i -u admin:{password} http://{}/auth/nginx", server.address());
    assert!(server.said().contains(&told), "{}", server.said());
    let began = stopwatch();
    let response = server.login("/auth/nginx?group=admin", "admin", &password);
    let login = began.elapsed();
    assert_eq!((response.status, response.header("remote-user")), (200, Some("admin")));
    assert!(!server.logged().contains(&password), "not in the log");
    server.stop();

    let server = gatepost.serve();
    let second = server.ready_after();
    assert_eq!(server.login("/auth/nginx", "admin", &password).status, 200, "it still works");
    assert_eq!(printed_password(&server.said()), None, "it is not printed again: {}", server.said());
    assert!(!server.said().contains(&password));
    // Past the test runner, which keeps what a passing test prints.
    let _ = writeln!(
        std::io::stderr(),
        "start to first 200 on /livez: first {first:?}, second {second:?}; first real login: {login:?}"
    );
    assert!(second < Duration::from_secs(1), "the second start took {second:?}");
}

#[test]
fn a_store_that_was_there_gets_no_administrator() {
    let gatepost = Gatepost::new();
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    let server = gatepost.serve();
    assert_eq!(server.login("/auth/nginx", "calvin", RIGHT).status, 200);
    assert_eq!(printed_password(&server.said()), None);
    assert_eq!(gatepost.run(&["user", "list", "--json"]).expect(0).rows().len(), 1);
}

#[test]
fn it_serves_the_loopback_interface_unless_told_otherwise() {
    let gatepost = Gatepost::new();
    let snippet = gatepost.run_without(&["print", "nginx"], "GATEPOST__SERVER__LISTEN").expect(0).stdout;
    assert!(snippet.contains("proxy_pass              http://127.0.0.1:8730/auth/nginx;"), "{snippet}");
    assert!(gatepost.serve().address().ip().is_loopback());
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let done = gatepost.run(&["serve"]).expect(2);
    assert!(done.stderr.contains("already runs"), "{}", done.stderr);
    assert_eq!(server.get("/livez").status, 200, "the first goes on");
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    assert_eq!(server.login("/auth/nginx", "calvin", RIGHT).status, 200, "its admin socket too");
    // A socket that a killed server left behind is no server.
    server.kill();
    assert!(gatepost.data().join("admin.sock").exists());
    assert_eq!(gatepost.serve().login("/auth/nginx", "calvin", RIGHT).status, 200);
}

#[test]
fn a_request_under_way_is_finished_before_the_server_stops() {
    // A hash that takes long enough to be under way, and not so long as the server's patience.
    let config = "[password]\nupgrade = false\n[password.argon2]\nmemory_kib = 65536\npasses = 6\n";
    let gatepost = Gatepost::with_config(config).var("CACHE", "none");
    let server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    let asked = |server: &integration_tests::Server| {
        let metrics = server.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("gatepost_source_questions_total{"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = asked(&server);
    let address = server.address();
    let response = std::thread::scope(|scope| {
        let login = scope.spawn(move || {
            get(address, "/auth/nginx", &[("Authorization", &basic("calvin", RIGHT.as_bytes()))])
        });
        // The account was asked for: what remains is the hash.
        until(|| asked(&server) > before, "the request is under way");
        server.terminate();
        login.join().unwrap()
    });
    assert_eq!((response.status, response.header("remote-user")), (200, Some("calvin")));
    assert!(server.stop() < Duration::from_secs(5));
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let mut idle = TcpStream::connect(server.address()).unwrap();
    let mut kept = TcpStream::connect(server.address()).unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 15];
    kept.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    idle.write_all(b"GET /livez HT").unwrap();
    assert!(server.stop() < Duration::from_secs(5));
}

#[test]
fn what_is_too_large_is_refused() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let send =
        |request: String| exchange(server.address(), request.as_bytes()).map(|response| response.status);
    let with =
        |lines: &str| format!("GET /auth/nginx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    assert_eq!(send(with("")), Some(401));
    let long = "a".repeat(200_000);
    assert_eq!(send(with(&format!("X: {long}\r\n"))), Some(431), "a long header");
    let many: String = (0..100).map(|n| format!("X-{n}: x\r\n")).collect();
    assert_eq!(send(with(&many)), Some(431), "many headers");
    let url = send(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(matches!(url, Some(414 | 431)), "a long URL: {url:?}");
    assert_eq!(send("nonsense\r\n\r\n".to_owned()), Some(400));
    // Bodies are not read, however long they say they are.
    let body =
        "POST /auth/nginx HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n";
    assert_eq!(send(body.to_owned()), Some(401));
    // An `Authorization` that no login can be.
    let credentials = basic("calvin", "x".repeat(20_000).as_bytes());
    let status = send(with(&format!("Authorization: {credentials}\r\n")));
    assert!(matches!(status, Some(400 | 401 | 431)), "long credentials: {status:?}");
    // The admin socket bounds its commands too.
    let mut admin = UnixStream::connect(gatepost.data().join("admin.sock")).unwrap();
    admin.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let size = 25 * 1024 * 1024;
    let head = format!(
        "POST /command HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    );
    admin.write_all(head.as_bytes()).unwrap();
    // It may close before it has read all of it.
    let _ = admin.write_all(&vec![b' '; size]);
    let mut answer = [0; 12];
    admin.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_head_that_never_ends_is_cut() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    let mut slow = TcpStream::connect(server.address()).unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX: ").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let began = stopwatch();
    let mut rest = Vec::new();
    // The end of the connection, or a 408 and its end; an error is the time limit above.
    slow.read_to_end(&mut rest).unwrap();
    let took = began.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(25), "{took:?}");
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn two_hundred_at_once_get_their_own_answers() {
    let config = "[password]\npreferred = \"bcrypt\"\nbcrypt_cost = 4\n";
    let gatepost = Gatepost::with_config(config);
    let server = gatepost.serve();
    for n in 0..4 {
        gatepost.must(
            &["user", "add", &format!("user-{n}"), "--hash", CHEAP, "--group", &format!("group-{n}")],
            b"",
        );
    }
    let ask = |login: &str, password: &str| -> (u16, Option<String>, Option<String>) {
        let response: Response = server.login("/auth/nginx", login, password);
        let header = |name| response.header(name).map(str::to_owned);
        (response.status, header("remote-user"), header("remote-groups"))
    };
    let barrier = std::sync::Barrier::new(200);
    std::thread::scope(|scope| {
        for n in 0..200 {
            let (ask, barrier) = (&ask, &barrier);
            scope.spawn(move || {
                let login = format!("user-{}", n % 5);
                let right = n % 3 != 0;
                barrier.wait();
                let answer = ask(&login, if right { "hobbes" } else { "wrong" });
                if right && n % 5 < 4 {
                    assert_eq!(answer, (200, Some(login), Some(format!("group-{}", n % 5))));
                } else {
                    assert_eq!(answer, (401, None, None), "{login} {right}");
                }
            });
        }
    });
}

#[test]
fn the_printed_snippet_protects_a_site_as_it_is() {
    if skipped("nginx") {
        return;
    }
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    let nginx = Nginx::verbatim(&gatepost, &server);
    let response = nginx.get(0, "/hello", &[]);
    assert_eq!(response.status, 401);
    assert_eq!(response.header("www-authenticate").map(|value| value.starts_with("Basic ")), Some(true));
    assert_eq!(nginx.login(0, "calvin", "wrong").status, 401);
    let response = nginx.login(0, "calvin", RIGHT);
    assert_eq!((response.status, response.body.as_str()), (200, "hello\n"));
    // The endpoint itself is not reachable from outside.
    assert_eq!(nginx.get(0, "/.gatepost", &[]).status, 404);
    // Without gatepost, nobody gets in.
    server.stop();
    assert_eq!(nginx.login(0, "calvin", RIGHT).status, 500);
}

#[test]
fn the_application_hears_of_nobody_but_whom_gatepost_names() {
    if skipped("nginx") {
        return;
    }
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    gatepost.must(
        &["user", "add", "zo\u{e9}", "--group", "a,b", "--group", "staff"],
        "p\u{e4}ssw\u{f6}rd".as_bytes(),
    );
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    let nginx = Nginx::start(&gatepost, &server, &[""]);
    let forged = |login: &str, password: &str| {
        let credentials = basic(login, password.as_bytes());
        let mut headers = FORGED.to_vec();
        headers.push(("Authorization", &credentials));
        nginx.get(0, "/all", &headers)
    };
    assert_eq!(forged("calvin", RIGHT).body, "calvin||default||");
    assert_eq!(forged("zo\u{e9}", "p\u{e4}ssw\u{f6}rd").body, "zo%C3%A9|a%2Cb,staff|default||");
    assert_eq!(forged("calvin", "wrong").status, 401);
    assert_eq!(nginx.get(0, "/", &[("Remote-User", "admin")]).status, 401);
}

/// What a client says to pass for somebody else, in every spelling that a proxy may take for the same.
const FORGED: [(&str, &str); 8] = [
    ("Remote-User", "admin"),
    ("Remote-Groups", "admin"),
    ("Remote-Realm", "admin"),
    ("Remote-Name", "admin"),
    ("Remote-Email", "admin@example.com"),
    ("remote_user", "admin"),
    ("REMOTE-USER", "admin"),
    ("remote-email", "admin@example.com"),
];

#[test]
fn no_client_chooses_its_realm_behind_nginx_but_by_the_site_it_asks() {
    if skipped("nginx") {
        return;
    }
    let config = "[source.inside]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/inside.db\"\n\
                  [source.outside]\nkind = \"sql\"\nurl = \"sqlite:FOLDER/outside.db\"\n\
                  [realm.inside]\npassword = [\"inside\"]\n[realm.outside]\npassword = [\"outside\"]\n\
                  [server]\nrealm = \"inside\"\nhosts = { \"outside.example\" = \"outside\" }\n\
                  trusted_proxies = [\"127.0.0.1\"]\n";
    let gatepost = Gatepost::with_config(config);
    gatepost.must(&["user", "add", "calvin"], RIGHT.as_bytes());
    gatepost.must(&["user", "add", "calvin", "--realm", "outside"], b"only outside");
    let server = gatepost.serve();
    // From a trusted proxy the header counts.
    let direct = |password: &str| {
        let credentials = basic("calvin", password.as_bytes());
        let headers = [("Authorization", credentials.as_str()), ("X-Forwarded-Host", "outside.example")];
        get(server.address(), "/auth/nginx", &headers).status
    };
    assert_eq!((direct("only outside"), direct(RIGHT)), (200, 401));
    let nginx = Nginx::start(&gatepost, &server, &[""]);
    let forged = |password: &str| {
        let credentials = basic("calvin", password.as_bytes());
        let mut headers = FORGED.to_vec();
        headers.extend([
            ("Authorization", credentials.as_str()),
            ("X-Forwarded-Host", "outside.example"),
            ("x-forwarded-host", "outside.example"),
            ("X_Forwarded_Host", "outside.example"),
            ("Forwarded", "host=outside.example"),
            ("X-Original-Host", "outside.example"),
        ]);
        nginx.get(0, "/all", &headers)
    };
    assert_eq!(forged("only outside").status, 401);
    assert_eq!(forged(RIGHT).body, "calvin||inside||");
}

#[test]
fn no_secret_is_told_anywhere() {
    const CANARY: &str = "canary-Tq7-zebra-0451";
    const OTHER: &str = "canary-9Xw-okapi-2287";
    let gatepost = Gatepost::new().var("GATEPOST_LOG", "trace");
    let server = gatepost.serve();
    let mut told = String::new();
    let mut run = |args: &[&str], input: &str| {
        for json in [false, true] {
            let mut args = args.to_vec();
            args.extend(json.then_some("--json"));
            let done = gatepost.run_with(&args, input.as_bytes());
            told += &format!("{}{}", done.stdout, done.stderr);
        }
    };
    run(&["user", "add", "calvin", "--group", "staff"], CANARY);
    run(&["check", "password", "calvin", "--explain"], CANARY);
    run(&["check", "password", "calvin", "--explain"], OTHER);
    run(&["check", "password", "nobody", "--explain"], CANARY);
    run(&["check", "password", "calvin", "--explain", "--local"], CANARY);
    run(&["check", "password", "calvin", "--realm", "other"], CANARY);
    run(&["user", "passwd", "calvin"], OTHER);
    run(&["user", "passwd", "nobody"], OTHER);
    run(&["check", "password", "calvin", "--explain"], OTHER);
    run(&["user", "show", "calvin"], "");
    run(&["user", "list"], "");
    run(&["cache", "stats"], "");
    run(&["sources"], "");
    run(&["config", "show"], "");
    run(&["config", "check"], "");
    run(&["config", "check", "--probe"], "");
    run(&["hash", "--verify", "no such form"], CANARY);
    run(&["user", "add", "susie", "--hash", CANARY], "");
    for (login, password) in [("calvin", OTHER), ("calvin", CANARY), ("nobody", CANARY), ("no login", OTHER)]
    {
        for path in
            ["/auth/nginx", "/auth/forward", "/auth/nginx?group=x", "/auth/nginx?domain=x&id=1", "/livez"]
        {
            let response = server.login(path, login, password);
            told += &format!("{:?}\n{}", response.headers, response.body);
        }
    }
    told += &server.get("/metrics").body;
    told += &server.get("/readyz").body;
    if !skipped("nginx") {
        let nginx = Nginx::start(&gatepost, &server, &[""]);
        assert_eq!(nginx.login(0, "calvin", OTHER).body, "calvin|staff");
        assert_eq!(nginx.login(0, "calvin", CANARY).status, 401);
        told += &nginx.logged();
    }
    told += &server.said();
    told += &server.logged();
    assert!(server.logged().contains("gatepost::audit"), "the log is what was looked at");
    assert!(told.contains("\"decision\":\"accepted\"") && told.contains("gatepost_logins_total"));

    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    // The hash is a secret too.
    for secret in [CANARY, OTHER, "$argon2id$", &base64(CANARY), &base64(&format!("calvin:{OTHER}"))] {
        if let Some(line) = told.lines().find(|line| line.contains(secret)) {
            panic!("{secret:?} is told: {line}");
        }
    }
}

#[test]
fn a_wrong_setting_does_not_tell_the_secret_in_it() {
    let check = |name: &str, value: &str| {
        let gatepost = Gatepost::new().var(name, value);
        for verb in [&["config", "check"][..], &["config", "show"], &["serve"]] {
            let done = gatepost.run(verb).expect(2);
            assert!(!done.stderr.contains("canary") && !done.stdout.contains("canary"), "{done:?}");
        }
    };
    check("DATABASE_URL", "oracle://calvin:canary@localhost/people");
    check("DATABASE_URL", "canary");
    check("CACHE_URL", "redis://calvin:canary@localhost/");
    let redis = |url| Gatepost::new().var("CACHE_URL", url).var("CACHE", "redis");
    assert!(
        !redis("redis://calvin:canary@localhost:1:2/").run(&["serve"]).expect(2).stderr.contains("canary")
    );
    let gatepost = redis("redis://calvin:canary@localhost/");
    let gatepost =
        gatepost.var("GATEPOST__SECRETS__CACHE_KEY", "canary, and at least thirty-two bytes of it");
    for verb in [["config", "check"], ["config", "show"]] {
        let done = gatepost.run(&verb).expect(0);
        assert!(!done.stderr.contains("canary") && !done.stdout.contains("canary"), "{done:?}");
    }
}

#[test]
fn metrics_and_health_are_readable() {
    let gatepost = Gatepost::new();
    let server = gatepost.serve();
    assert_eq!(server.get("/livez").body, "ok\n");
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.header("content-type")), (200, Some("application/json")));
    let body: serde_json::Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!(body, serde_json::json!({"ready": true, "sessions": true, "sources": {"local": true}}));
    assert_eq!(server.login("/auth/nginx", "nobody", "x").status, 401);
    let metrics = server.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    // Every sample has a number, and a family that was introduced.
    let mut families = Vec::new();
    for line in metrics.body.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            families.push(family.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.split('{').next().unwrap();
            // The samples of a histogram bear the name of its family, and an ending.
            let of = |family: &String| {
                let rest = name.strip_prefix(family.as_str());
                rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(families.iter().any(of), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(families.len() > 10);
    assert!(
        metrics.body.contains("gatepost_logins_total{realm=\"default\",outcome=\"unknown_user\"} 1"),
        "{}",
        metrics.body
    );
    assert_eq!(server.get("/nothing").status, 404);
}

#[test]
fn many_commands_at_once_are_all_done() {
    let gatepost = Gatepost::new();
    let _server = gatepost.serve();
    in_parallel(0..24, |n| {
        gatepost.must(&["user", "add", &format!("user-{n}"), "--hash", CHEAP, "--group", "all"], b"");
    });
    let rows = gatepost.run(&["user", "list", "--json"]).expect(0).rows();
    assert_eq!(rows.len(), 25, "and the administrator");
}

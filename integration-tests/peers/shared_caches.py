"""Asks FlaskSimpleAuth what a shared cache promises; prints PASS or FAIL, what it is about and what was seen.

Every check has a server of its own, which is stopped after it.
"""

import contextlib
import importlib.metadata
import logging
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import FlaskSimpleAuth as fsa
import redis

LOCAL = "127.0.0.1"
PASSWORDS = {"calvin": "tiger, burning", "x" * 200: "a long one"}
SERVERS = ["redis", "memcached"]


class Server:
    """A private redis or memcached on a free port of the loopback interface."""

    def __init__(self, kind):
        with socket.socket() as free:
            free.bind((LOCAL, 0))
            self.port = free.getsockname()[1]
        self.kind, port = kind, str(self.port)
        command = {
            "redis": ["redis-server", "--bind", LOCAL, "--port", port, "--save", "", "--appendonly", "no"],
            "memcached": ["memcached", "-l", LOCAL, "-p", port, "-U", "0", "-u", "nobody"],
        }[kind]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def ready(self):
        for _ in range(200):
            assert self.process.poll() is None, f"{self.kind} has ended"
            with contextlib.suppress(OSError), socket.create_connection((LOCAL, self.port)):
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.kind} does not listen")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def config(self, **options):
        where = {"host": LOCAL, "port": self.port} if self.kind == "redis" else {"server": (LOCAL, self.port)}
        return {"FSA_CACHE": self.kind, "FSA_CACHE_OPTS": where | options}

    def lives(self):
        """What remains to each entry in seconds; -1 is for ever."""
        if self.kind == "redis":
            client = redis.Redis(LOCAL, self.port)
            return {key.decode(): client.ttl(key) for key in client.keys()}
        with socket.create_connection((LOCAL, self.port)) as stream:
            stream.sendall(b"lru_crawler metadump all\r\n")
            told = b""
            while not told.endswith(b"END\r\n"):
                read = stream.recv(65536)
                assert read and not told.startswith(b"BUSY"), told
                told += read
        entries = [dict(part.split("=", 1) for part in line.split()) for line in told.decode().splitlines()[:-1]]
        ends = {urllib.parse.unquote(entry["key"]): int(entry["exp"]) for entry in entries}
        return {key: end if end == -1 else end - int(time.time()) for key, end in ends.items()}


@contextlib.contextmanager
def running(kind):
    server = Server(kind)
    try:
        server.ready()
        yield server
    finally:
        server.stop()


class App:
    """An application with hooks that count, and a client of it."""

    def __init__(self, **config):
        self.asked = 0

        def password(user):
            self.asked += 1
            return PASSWORDS.get(user)

        def in_group(user, group):
            self.asked += 1
            return user in PASSWORDS and group == "staff"

        settings = {
            "FSA_AUTH": ["token", "basic", "fake"],
            "FSA_PASSWORD_SCHEME": "plaintext",
            "FSA_GET_USER_PASS": password,
            "FSA_USER_IN_GROUP": in_group,
            "FSA_TOKEN_SECRET": "a secret that is long enough for both",
        }
        self.flask = fsa.Flask("peer", **(settings | config))

        @self.flask.get("/token", authz="AUTH", authn="token")
        def token():
            return "token", 200

        @self.flask.get("/login", authz="AUTH", authn="basic")
        def login():
            return "login", 200

        @self.flask.get("/staff", authz="staff", authn="fake")
        def staff():
            return "staff", 200

        self.client = self.flask.test_client()

    def token(self, token):
        return self.client.get("/token", headers={"Authorization": f"Bearer {token}"}).status_code

    def login(self, user="calvin"):
        return self.client.get("/login", auth=(user, PASSWORDS.get(user, "wrong"))).status_code

    def staff(self, user="calvin"):
        return self.client.get("/staff", query_string={"LOGIN": user}).status_code


def tokens(kind, form):
    with running(kind) as server:
        uncached = App(FSA_CACHE=None, FSA_TOKEN_TYPE=form)
        app = App(FSA_TOKEN_TYPE=form, **server.config())
        with app.flask.app_context():
            token = app.flask.create_token("calvin", "peer")
        assert uncached.token(token) == 200, "a token that is not valid shows nothing"
        seen = [app.token(token), app.token(token)]
    return seen == [200, 200], f"status {seen[0]}, then {seen[1]}; without a cache 200"


def configured_life():
    with running("redis") as server:
        app = App(**server.config(ttl=77))
        assert (app.staff(), app.login()) == (200, 200)
        lives = list(server.lives().values())
    return bool(lives) and all(70 <= life <= 77 for life in lives), f"{lives} seconds on the server"


def some_life():
    with running("memcached") as server:
        app = App(**server.config())
        assert (app.staff(), app.login()) == (200, 200)
        lives = list(server.lives().values())
    return bool(lives) and all(life > 0 for life in lives), f"{lives} seconds on the server, -1 is for ever"


def nobody(kind):
    with running(kind) as server:
        app = App(**server.config())
        assert [app.login("nobody"), app.login("nobody")] == [401, 401]
    return app.asked == 1, f"{app.asked} of 2 questions asked the hook"


def objects(has_repr):
    class Name:
        """What a parameter is made of; with `has_repr` it says how it is written."""

        def __init__(self, text):
            self.text = text

        def __repr__(self):
            return f"Name({self.text!r})" if has_repr else super().__repr__()

    app = App(FSA_CACHE="ttl")

    @app.flask.object_perms("doc")
    def may(user, doc, mode):
        app.asked += 1
        return doc.text.startswith("open")

    @app.flask.get("/doc/<doc>", authz=("doc", "doc", "read"), authn="fake")
    def document(doc: Name):
        return doc.text, 200

    def get(doc):
        return app.client.get(f"/doc/{doc}", query_string={"LOGIN": "calvin"}).status_code

    allowed = sum(get(f"open-{n}") == 200 for n in range(300))
    served = sum(get(f"secret-{n}") == 200 for n in range(300))
    return (allowed, served) == (300, 0), f"{served} of 300 forbidden documents served, {allowed} of 300 allowed ones"


def asked_again(app):
    """Whether what is cached is asked again once the caches are cleared, and what was seen."""
    assert (app.staff(), app.staff(), app.asked) == (200, 200, 1), "it is not cached"
    try:
        app.flask.clear_caches()
        raised = ""
    except Exception as error:
        raised = f"{type(error).__name__} raised ({error}), "
    assert app.staff() == 200
    cleared = app.asked == 2
    return cleared and not raised, f"{raised}the hook is {'asked' if cleared else 'not asked'} again"


def clear_local():
    return asked_again(App(FSA_CACHE="ttl", FSA_CACHE_PREFIX="acme."))


def clear_redis(prefix):
    with running("redis") as server:
        other = redis.Redis(LOCAL, server.port)
        other.set("other.key", "kept")
        passed, seen = asked_again(App(**server.config(), FSA_CACHE_PREFIX=prefix))
        kept = other.get("other.key") == b"kept"
    return passed and kept, f"{seen}, the other application's key is {'kept' if kept else 'gone'}"


def down(kind):
    with running(kind) as server:
        app = App(**server.config())
        assert (app.login(), app.staff()) == (200, 200)
        server.stop()
        seen = (app.login(), app.staff())
    return seen == (200, 200), f"login {seen[0]}, group check {seen[1]}; with the server both 200"


def long_name():
    with running("memcached") as server:
        app = App(**server.config())
        assert app.login() == 200
        user = "x" * 200
        assert App(FSA_CACHE=None).login(user) == 200
        seen = (app.login(user), app.staff(user))
    return seen == (200, 200), f"login {seen[0]}, group check {seen[1]}; without a cache 200"


CHECKS = [
    *(
        (f"a valid {form} token is accepted twice with {kind}", lambda kind=kind, form=form: tokens(kind, form))
        for kind in SERVERS
        for form in ["fsa", "jwt"]
    ),
    ("entries live in redis for the 77 seconds configured", configured_life),
    ("entries in memcached end", some_life),
    *((f"an unknown user is remembered with {kind}", lambda kind=kind: nobody(kind)) for kind in SERVERS),
    ("a right to one object is not taken for another's, of a class without __repr__", lambda: objects(False)),
    ("a right to one object is not taken for another's, of a class with __repr__", lambda: objects(True)),
    ("clearing a local cache that has a prefix clears it", clear_local),
    ("clearing redis clears the own keys only, with a prefix", lambda: clear_redis("acme.")),
    ("clearing redis clears the own keys only, without a prefix", lambda: clear_redis(None)),
    *((f"the hooks answer when {kind} is down", lambda kind=kind: down(kind)) for kind in SERVERS),
    ("a user name of 200 characters works with memcached", long_name),
]


def main():
    # Its servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # It tells of what is checked here anyway.
    logging.disable(logging.CRITICAL)
    packages = ["FlaskSimpleAuth", "Flask", "cachetools", "CacheToolsUtils", "PyJWT", "pymemcache", "redis"]
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    python = ".".join(map(str, sys.version_info[:3]))
    told = [subprocess.check_output(command, text=True) for command in (["redis-server", "-v"], ["memcached", "-V"])]
    servers = [f"redis-server {told[0].split('v=')[1].split()[0]}", told[1].strip()]
    print(", ".join([f"Python {python}", *versions, *servers]), flush=True)
    for what, check in CHECKS:
        passed, seen = check()
        print(f"{'PASS' if passed else 'FAIL'} {what}: {seen}", flush=True)


main()

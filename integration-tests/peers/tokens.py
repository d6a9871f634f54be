"""Makes and reads tokens as FlaskSimpleAuth 36 and PyJWT do, and serves an application that FlaskSimpleAuth protects.

usage: tokens.py run < JOBS     one JSON object a line in, one out: {"ok": …} or {"error": "…"}
       tokens.py serve          the configuration on standard input; prints the port, and serves until its input ends
"""

import json
import logging
import sys
import threading
import time

import FlaskSimpleAuth as fsa
import jwt
from werkzeug.serving import make_server


def application(config: dict) -> fsa.Flask:
    """An application whose users come with tokens alone."""
    app = fsa.Flask("peer", FSA_AUTH="token", FSA_PASSWORD_SCHEME="plaintext", **config)

    @app.get("/who", authz="AUTH")
    def who(user: fsa.CurrentUser):
        return {"user": user}, 200

    return app


def made_by_fsa(job: dict) -> str:
    manager = application(job["config"])._fsa._am._tm
    return manager.create_token(job["user"], realm=manager._realm)


def key_of(job: dict):
    if "secret" in job:
        return job["secret"]
    return jwt.PyJWK(job["jwk"]).key


def made_by_pyjwt(job: dict) -> str:
    now = int(time.time())
    claims = {"iat": now, "exp": now + 600, **job["claims"]}
    return jwt.encode(claims, key_of(job), algorithm=job["alg"], headers=job.get("headers"))


def read_by_pyjwt(job: dict) -> dict:
    """With the published key that the token names, or with a secret."""
    if "jwks" in job:
        name = jwt.get_unverified_header(job["token"])["kid"]
        [key] = [key.key for key in jwt.PyJWKSet.from_dict(job["jwks"]).keys if key.key_id == name]
    else:
        key = key_of(job)
    demands = {"require": ["exp", "sub"]}
    return jwt.decode(
        job["token"], key, algorithms=[job["alg"]], audience=job["audience"], issuer=job["issuer"], options=demands
    )


def pem_of(job: dict) -> dict:
    """The halves of a key as FlaskSimpleAuth wants them."""
    from cryptography.hazmat.primitives import serialization as form

    key = jwt.PyJWK(job["jwk"]).key
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return {"FSA_TOKEN_SIGN": private.decode(), "FSA_TOKEN_SECRET": public.decode()}


DOES = {does.__name__: does for does in (made_by_fsa, made_by_pyjwt, read_by_pyjwt, pem_of)}


def run() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = {"ok": DOES[job["do"]](job)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def serve() -> None:
    server = make_server("127.0.0.1", 0, application(json.loads(sys.stdin.readline())), threaded=True)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    {"run": run, "serve": serve}[sys.argv[1]]()

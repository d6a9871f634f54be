"""Times FlaskSimpleAuth's check of an access token, remembered and not; prints both in nanoseconds.

usage: check_tokens.py fsa
       check_tokens.py ALGORITHM JWK_FILE          of a JWT
"""

import logging
import statistics
import sys
import time

import FlaskSimpleAuth as fsa
import jwt

ROUNDS, SECONDS = 31, 0.02
USER = "user00000042@example.org"


def halves(algorithm: str, file: str) -> dict:
    """The key as FlaskSimpleAuth wants it."""
    from cryptography.hazmat.primitives import serialization as form

    with open(file) as text:
        key = jwt.PyJWK.from_json(text.read(), algorithm).key
    if isinstance(key, bytes):
        return {"FSA_TOKEN_SECRET": key.decode("latin-1")}
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    return {"FSA_TOKEN_SIGN": private.decode(), "FSA_TOKEN_SECRET": public.decode()}


def timed(check) -> float:
    """The median of some rounds, in nanoseconds a call."""
    rounds = []
    for _ in range(ROUNDS):
        calls, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SECONDS:
            for _ in range(8):
                check()
            calls += 8
        rounds.append(took * 1e9 / calls)
    return statistics.median(rounds)


def checker(config: dict, cached: bool):
    """What a request through an application asks of its token."""
    cache = {"FSA_CACHE": "ttl", "FSA_CACHE_OPTS": {"ttl": 600}} if cached else {"FSA_CACHE": "none"}
    app = fsa.Flask("bench", FSA_AUTH="token", FSA_PASSWORD_SCHEME="plaintext", FSA_REALM="bench", **config, **cache)

    @app.get("/who", authz="AUTH")
    def who(user: fsa.CurrentUser):
        return {"user": user}, 200

    app._fsa._initialize()
    manager = app._fsa._am._tm
    assert hasattr(manager._get_any_token_auth_exp, "cache_del") == cached, "the other way of checking"
    token = manager.create_token(USER, realm="bench")
    assert manager._get_any_token_auth(token, "bench") == USER
    return lambda: manager._get_any_token_auth(token, "bench")


def main(algorithm: str, file: str | None) -> None:
    logging.disable(logging.WARNING)
    if algorithm == "fsa":
        config = {"FSA_TOKEN_TYPE": "fsa", "FSA_TOKEN_SECRET": "the-quick-brown-fox-secret-2099!"}
    else:
        config = {"FSA_TOKEN_TYPE": "jwt", "FSA_TOKEN_ALGO": algorithm, **halves(algorithm, file)}
    print(" ".join(f"{timed(checker(config, cached)):.0f}" for cached in (True, False)))


main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)

"""Times FlaskSimpleAuth's cached `user_in_group` as its own group check calls it; prints nanoseconds a hit.

usage: user_in_group.py CACHE PEOPLE          CACHE: ttl, lru, or redis:PORT, of a server on this machine
"""

import logging
import random
import statistics
import sys
import time

import FlaskSimpleAuth as fsa

CHUNK = 1024


def main(cache: str, people: int) -> None:
    # It warns of what does not matter here: plain passwords, a secret that does not last.
    logging.disable(logging.WARNING)
    asked = 0

    def user_in_group(user: str, group: str) -> bool:
        nonlocal asked
        asked += 1
        return group != "nobody"

    cache, _, port = cache.partition(":")
    options = {"ttl": {"ttl": 8 * 3600}, "redis": {"host": "127.0.0.1", "port": int(port or 0), "ttl": 8 * 3600}}
    app = fsa.Flask(
        "bench",
        FSA_AUTH="basic",
        FSA_GET_USER_PASS=lambda user: None,
        FSA_PASSWORD_SCHEME="plaintext",
        FSA_CACHE=cache,
        FSA_CACHE_SIZE=4 * people,
        FSA_CACHE_OPTS=options.get(cache, {}),
        FSA_USER_IN_GROUP=user_in_group,
    )

    @app.get("/hello", authz="group-000")
    def hello():
        return "hello", 200

    # What the group check of that route calls.
    cached = app._fsa._zm._user_in_group
    assert cached is not user_in_group, "the hook is not cached"

    users = [f"user{n:08}@example.org" for n in range(people)]
    groups = [f"group-{n * 7 % 200:03}" for n in range(people)]
    for user, group in zip(users, groups):
        assert cached(user, group)
    assert asked == people

    # By Zipf's law with exponent 0.99, as on the other side.
    generator = random.Random(1)
    weights = [rank**-0.99 for rank in range(1, people + 1)]
    # Who waits for a server takes that time, too.
    clock, chunks = (time.perf_counter_ns, 10) if cache == "redis" else (time.thread_time_ns, 200)
    ids = [rank * 2_654_435_761 % people for rank in generator.choices(range(people), weights, k=chunks * CHUNK)]
    times = []
    for at in range(0, len(ids), CHUNK):
        pairs = [(users[n], groups[n]) for n in ids[at : at + CHUNK]]
        began = clock()
        for user, group in pairs:
            cached(user, group)
        times.append((clock() - began) / CHUNK)
    assert asked == people, "not every hit was one"
    print(f"{statistics.median(times):.0f}")


main(sys.argv[1], int(sys.argv[2]))

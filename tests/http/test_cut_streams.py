"""A stream that is cut again and again, in the middle of events, and resumed: every fact comes once, in order."""

import random

import pytest
from tests.http.serving import events, parsed, submit, until

CUTS = 50
PROGRESS = "progress"


def cut(client, path, after, size):
    """What was whole of the first `size` bytes of a stream; then the connection is closed."""
    headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": str(after)})
    data = b""
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) >= size:
                break
    whole = data[:size].rpartition(b"\n\n")[0] + b"\n\n"
    return list(parsed(iter(whole.decode(errors="replace").split("\n"))))


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("part", ["events", "logs"])
def test_a_stream_that_is_cut_fifty_times_has_every_fact_once_and_in_order(client, tmp_path, part, seed):
    chance = random.Random(seed)
    stop = tmp_path / "stop"
    id = submit(client, "steady", stop=str(stop))
    path = f"/v1/jobs/{id}/{part}"
    until(client, id, "log")
    seen, after = [], 0 if part == "events" else None
    for _ in range(CUTS):
        found = cut(client, path, after, chance.randrange(1, 4000))
        seen += found
        after = max([after or 0, *(item.seq for item in found)]) or None
        after = 0 if after is None and part == "events" else after
    stop.touch()
    rest = cut(client, path, after, 10**9)
    assert rest[-1].kind == "end"
    seen += rest[:-1]

    whole = [item for item in events(client, id, after=0) if item.kind != "end"]
    wanted = [item for item in whole if (item.kind == "log" if part == "logs" else item.kind != PROGRESS)]
    assert [item for item in seen if item.kind != PROGRESS] == wanted
    numbers = [item.seq for item in seen]
    assert numbers == sorted(set(numbers))
    assert len(wanted) > 20
    assert client.get(f"/v1/jobs/{id}").json()["state"] == "succeeded"

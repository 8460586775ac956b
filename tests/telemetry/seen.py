"""What a running server says, in metrics and in lines, and how tests wait for it."""

import json
import time

import httpx2
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 40.0


def eventually(find, what):
    """What `find` returns as soon as it is true of something."""
    end = time.monotonic() + PATIENCE
    while not (found := find()):
        assert time.monotonic() < end, f"it never came: {what() if callable(what) else what}"
        time.sleep(0.05)
    return found


def samples(text):
    """The value of each sample, by its name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(address):
    response = httpx2.get(f"{address}/metrics", timeout=20)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    return samples(response.text)


def fault(address, name):
    return scraped(address)["heavylift_faults_total", ("fault", name)]


def lines(server):
    """What the server has said, as records."""
    return [json.loads(line) for line in list(server.said)]


def said(server, **fields):
    """The first record with these fields, when it comes."""

    def found():
        return next((line for line in lines(server) if fields.items() <= line.items()), None)

    return eventually(found, lambda: f"{fields} among\n" + "".join(server.said[-40:]))

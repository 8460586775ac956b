"""More than a thousand requests that are generated from the description of the API, right ones and wrong ones.

No answer is a failure of the server, each is one that is described, what fits is accepted and what does not is refused.
GENERATED=1000 makes the run large (examples of each operation).
"""

import os
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.specs.openapi import checks
from tests.http import jobs_app
from tests.http.conftest import HERE
from tests.http.serving import finished, serving, submit

from heavylift.http import openapi

EXAMPLES = int(os.environ.get("GENERATED", "30"))
TASKS = ("add", "bounded", "plan", "chatty", "broken", "hopeless")
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
NEED_A_KEY = ("on_conflict", "unique_until", "unique_for", "debounce")
document = openapi.document([jobs_app.lift.registry[name] for name in TASKS], "")
schema = schemathesis.openapi.from_dict(document)
count: Counter[str] = Counter()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server of its own, for all its queues and jobs are at risk; and a job that is over, one that waits."""
    folder = tmp_path_factory.mktemp("generated")
    with serving("--store", "sqlite:///jobs.db", cwd=folder, variables={"PYTHONPATH": HERE}) as server:
        with server.client() as client:
            over = submit(client, "chatty")
            finished(client, over)
            waiting = submit(client, "add", params={"delay": "10h"}, a=1)
        yield server.address, over, waiting
    print(f"{sum(count.values())} requests were answered: {dict(sorted(count.items()))}")


def _is_beyond_schemas(problem):
    """What no schema says: that a page token is one that a page returned, and an ETag the job's; that a size has room
    for what waits, and that who pauses a queue, and why, goes with a pause.
    """
    pointers = {error["pointer"] for error in problem.get("errors", ())}
    if pointers and pointers <= {"/max_size", "/by", "/reason"}:
        return True
    codes = ("job-changed", "idempotency-key-reused")
    return problem.get("parameter") == "page_token" or problem.get("code") in codes


def leave_out_what_makes_no_sense_together(query, headers):
    """Each parameter fits its schema, and no schema can say which of them fit each other."""
    apart = (
        (NEED_A_KEY, "unique" not in query),
        (("run_at", "on_conflict"), "unique" in query and "debounce" in query),
        (("expires",), "delay" in query or "debounce" in query),
        (("id",), "Idempotency-Key" in headers),
    )
    for names, out in apart:
        for name in names if out else ():
            query.pop(name, None)


@pytest.mark.timeout(180)
@schema.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_one_that_is_described(case, own):
    address, over, waiting = own
    if "id" in (case.path_parameters or {}):
        # A random id is nobody's. A stream of a job that waits would not end.
        ends = case.operation.label.endswith(("/events", "/logs"))
        case.path_parameters["id"] = over if ends or len(case.path_parameters["id"]) % 2 else waiting
    if case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
        leave_out_what_makes_no_sense_together(case.query or {}, case.headers or {})
    if "Prefer" in (case.headers or {}):
        case.headers["Prefer"] = "wait=0"
    # White space around a header's value is none of it (RFC 9110): what it alone makes wrong is right.
    assume(all(value == value.strip() for value in (case.headers or {}).values() if isinstance(value, str)))
    response = case.call(base_url=address, timeout=30)
    count[str(response.status_code)] += 1
    problem = response.json() if response.status_code >= 400 and response.content else {}
    assert response.status_code < 500 or problem["code"] == "queue-full", problem
    fits = [] if _is_beyond_schemas(problem) else [checks.positive_data_acceptance]
    case.validate_response(response, checks=[*CHECKS, *fits])

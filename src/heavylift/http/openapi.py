"""The API as an OpenAPI 3.1 document: one submit operation for each task, with the schema of its own arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from heavylift.http import params

if TYPE_CHECKING:
    from collections.abc import Iterable

    from heavylift.core.task import Task

VERSION = "1"

OPERATIONS = {
    ("get", "/v1/tasks"): ("list_tasks", "All tasks", 200),
    ("get", "/v1/tasks/{task}"): ("get_task", "One task", 200),
    ("get", "/v1/jobs"): ("list_jobs", "Jobs, newest first", 200),
    ("get", "/v1/jobs/{id}"): ("get_job", "One job as it is now", 200),
    ("get", "/v1/jobs/{id}/result"): ("get_result", "The bare result; 202 while there is none", 200),
    ("get", "/v1/jobs/{id}/events"): ("follow_job", "What happens to the job, as server-sent events", 200),
    ("post", "/v1/jobs/{id}/cancel"): ("cancel_job", "Stop the job; the receipt says what really happened", 200),
    ("post", "/v1/jobs/{id}/retry"): ("retry_job", "Start a job that is over anew", 202),
    ("get", "/v1/queues"): ("list_queues", "All queues", 200),
    ("patch", "/v1/queues/{name}"): ("change_queue", "Pause, resume or limit a queue", 200),
    ("get", "/healthz"): ("health", "The process is alive", 200),
    ("get", "/readyz"): ("readiness", "Jobs are accepted and worked on", 200),
}
QUERIES = {
    "list_jobs": [*params.FILTERS],
    "follow_job": ["after"],
}
PROBLEM = {
    "description": "What was wrong, as a problem (RFC 9457)",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
SCHEMAS = {
    "Problem": {
        "type": "object",
        "required": ["title", "status", "detail", "instance", "code"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "code": {"type": "string"},
        },
    },
}


def document(tasks: Iterable[Task], root: str) -> dict[str, Any]:
    """The document, for the API under `root`."""
    paths: dict[str, Any] = {}
    for (method, path), (name, summary, status) in OPERATIONS.items():
        paths.setdefault(path, {})[method] = _operation(name, summary, status, path, QUERIES.get(name, []))
    schemas: dict[str, Any] = dict(SCHEMAS)
    for task in tasks:
        operation = _operation(f"submit_{task.name}", _first_line(task), 202, "", params.OPTIONS)
        schemas[f"{task.name}.arguments"] = _moved(task.schema(), task.name, schemas)
        reference = {"$ref": f"#/components/schemas/{task.name}.arguments"}
        operation["requestBody"] = {"content": {"application/json": {"schema": reference}}}
        operation["description"] = task.description
        paths[f"/v1/tasks/{task.name}/jobs"] = {"post": operation}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Heavylift", "version": VERSION},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(name: str, summary: str, status: int, path: str, query: Iterable[str]) -> dict[str, Any]:
    named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    text = {"type": "string"}
    parameters = [{"name": part, "in": "path", "required": True, "schema": text} for part in named]
    parameters += [{"name": part, "in": "query", "required": False, "schema": text} for part in query]
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {str(status): {"description": "Done"}, "default": PROBLEM},
    }


def _first_line(task: Task) -> str:
    return task.description.partition("\n")[0] or f"Submit a {task.name} job"


def _moved(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> Any:
    """The schema with its `$defs` among the document's own, where references to them are found."""
    for key, part in schema.pop("$defs", {}).items():
        schemas[f"{name}.{key}"] = _renamed(part, name)
    return _renamed(schema, name)


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        moved = {key: _renamed(item, name) for key, item in value.items()}
        if isinstance(moved.get("$ref"), str):
            moved["$ref"] = moved["$ref"].replace("#/$defs/", f"#/components/schemas/{name}.")
        return moved
    return [_renamed(item, name) for item in value] if isinstance(value, list) else value

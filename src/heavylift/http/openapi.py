"""The API as OpenAPI 3.1: one submit operation for each task, with the schemas of its own arguments and result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from heavylift.http import resources
from heavylift.http.operation import JSON, Answer, Operation
from heavylift.http.operations import HEADERS, RESOURCES, SITE, SUBMIT
from heavylift.http.problems import CODES, MEDIA_TYPE, title

if TYPE_CHECKING:
    from heavylift.core.task import Task

VERSION = "1"
PLACE = "#/components/schemas/"
DESCRIPTION = """\
Jobs that run in processes of their own: submit, look, follow, stop. Errors are problems (RFC 9457) with a stable
`code`; what was refused has changed nothing."""
EVERYWHERE = ("store-unavailable", "internal-error")
"""The problems that any operation may meet."""

BAD = 400
"""Where statuses begin that are problems."""

Schema = dict[str, Any]
Refer = Callable[[str], Schema]


def document(tasks: Iterable[Task], root: str) -> Schema:
    """The document, for the API under `root`."""
    schemas = components()
    paths: dict[str, Schema] = {}
    for prefix, table in (("/v1", RESOURCES), ("", SITE)):
        for item in table:
            if item is not SUBMIT:
                paths.setdefault(prefix + item.path, {})[item.method.lower()] = operation(item, reference)
    shared, submitted = _shared()
    for task in tasks:
        names = {}
        for part, schema in (("arguments", task.schema()), ("result", task.result_schema())):
            names[part] = reference(f"{task.name}.{part}")
            schemas[f"{task.name}.{part}"] = _moved(schema, f"{task.name}.", schemas)
        described = submit(task, names["arguments"], names["result"], reference)
        described["parameters"] = submitted["parameters"]
        described["responses"] |= submitted["responses"]
        paths[f"/v1{submit_path(task)}"] = {"post": described}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Heavylift", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"schemas": schemas, **shared},
    }


def _shared() -> tuple[Schema, Schema]:
    """What the submits of all tasks have in common, once: for the components, and as references to it."""
    described = operation(SUBMIT, reference)
    parameters = {item["name"]: item for item in described["parameters"] if item["in"] != "path"}
    problems = {f"submit.{status}": item for status, item in described["responses"].items() if int(status) >= BAD}
    references = {
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters],
        "responses": {name.rpartition(".")[2]: {"$ref": f"#/components/responses/{name}"} for name in problems},
    }
    return {"parameters": parameters, "responses": problems}, references


def reference(name: str) -> Schema:
    """Where the schema of that name stands in the document."""
    return {"$ref": PLACE + name}


def components() -> dict[str, Schema]:
    """The schemas of all resources, and of what they are made of."""
    mode: Literal["serialization"] = "serialization"
    adapters = [(kind.__name__, mode, TypeAdapter(kind)) for kind in resources.RESOURCES]
    _, found = TypeAdapter.json_schemas(adapters, ref_template=PLACE + "{model}")
    here = to_json(found["$defs"]).replace((PLACE + resources.PREFIX).encode(), PLACE.encode())
    return {name.removeprefix(resources.PREFIX): schema for name, schema in from_json(here).items()}


def operation(item: Operation, refer: Refer) -> Schema:
    """One operation; `refer` tells how a schema is named."""
    described: Schema = {"operationId": item.name, "summary": item.summary, "tags": [item.tag]}
    if item.description:
        described["description"] = item.description
    if item.parameters:
        described["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.where,
                "required": parameter.where == "path",
                "description": parameter.description,
                "schema": dict(parameter.schema),
            }
            for parameter in item.parameters
        ]
    if item.body is not None:
        described["requestBody"] = {"required": item.needs_body, "content": {JSON: {"schema": refer(item.body)}}}
    answers = {str(status): _answer(answer, refer) for status, answer in item.answers.items()}
    described["responses"] = answers | _problems((*item.problems, *EVERYWHERE), refer)
    return described


def submit(task: Task, arguments: Schema, result: Schema, refer: Refer) -> Schema:
    """The submit of one task. Its arguments may be left out when none is required."""
    described = operation(SUBMIT, refer)
    described |= {
        "operationId": f"submit_{task.name}",
        "summary": task.description.partition("\n")[0] or f"Submit a {task.name} job",
        "parameters": [parameter for parameter in described["parameters"] if parameter["in"] != "path"],
        "requestBody": {
            "required": any(item.default is item.empty for item in task.parameters.values()),
            "content": {JSON: {"schema": arguments}},
        },
    }
    if task.description:
        described["description"] = task.description
    # The job that has a unique key may be of another task; then the answer has no result.
    for status, own in (("200", {"result": result}), ("202", {"task": {"const": task.name}, "result": result})):
        schema = {"allOf": [refer("FinishedJob"), {"type": "object", "properties": own}]}
        described["responses"][status]["content"][JSON]["schema"] = schema
    return described


def submit_path(task: Task) -> str:
    """Where jobs of the task are submitted."""
    return SUBMIT.path.replace("{task}", task.name)


def inlined(schema: Schema) -> Schema:
    """The schema with what it refers to in the place of each reference; what refers to itself is left open there."""
    definitions = schema.get("$defs", {})

    def whole(value: Any, within: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [whole(item, within) for item in value]
        if not isinstance(value, dict):
            return value
        target = value.get("$ref")
        if isinstance(target, str):
            name = target.removeprefix("#/$defs/")
            rest = {key: whole(item, within) for key, item in value.items() if key != "$ref"}
            return rest if name in within else whole(definitions[name], (*within, name)) | rest
        return {key: whole(item, within) for key, item in value.items() if key not in ("$defs", "discriminator")}

    found: Schema = whole(schema, ())
    return found


def _answer(answer: Answer, refer: Refer) -> Schema:
    described: Schema = {"description": answer.description}
    if answer.headers:
        described["headers"] = {name: HEADERS[name] for name in answer.headers}
    if answer.content:
        described["content"] = {
            media: {"schema": refer(schema) if isinstance(schema, str) else dict(schema)}
            for media, schema in answer.content.items()
        }
    return described


def _problems(codes: Iterable[str], refer: Refer) -> Schema:
    """The answers that are problems, by status, with an example for each code."""
    found: Schema = {}
    for code in dict.fromkeys(codes):
        status, detail, members = CODES[code]
        described = found.setdefault(
            str(status), {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {}}}
        )
        content = described["content"][MEDIA_TYPE]
        content["schema"] = refer("Problem")
        content.setdefault("examples", {})[code] = {"value": _example(code, status, detail, members)}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            described["headers"] = {"Retry-After": HEADERS["Retry-After"]}
    return found


def _example(code: str, status: int, detail: str, members: Mapping[str, Any]) -> Schema:
    return {
        "title": title(code, status),
        "status": status,
        "detail": detail,
        "instance": "/v1/…",
        "code": code,
        **members,
    }


def _moved(schema: Schema, prefix: str, schemas: dict[str, Schema]) -> Any:
    """The schema with its `$defs` among the document's own, where references to them are found."""
    for key, part in schema.pop("$defs", {}).items():
        schemas[prefix + key] = _renamed(part, prefix)
    return _renamed(schema, prefix)


def _renamed(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        moved = {key: _renamed(item, prefix) for key, item in value.items()}
        if isinstance(moved.get("$ref"), str):
            moved["$ref"] = moved["$ref"].replace("#/$defs/", PLACE + prefix)
        if isinstance(moved.get("discriminator"), dict) and isinstance(moved["discriminator"].get("mapping"), dict):
            mapping = moved["discriminator"]["mapping"]
            moved["discriminator"]["mapping"] = {
                key: target.replace("#/$defs/", PLACE + prefix) for key, target in mapping.items()
            }
        return moved
    return [_renamed(item, prefix) for item in value] if isinstance(value, list) else value

"""Reading `cascade.yaml`: every problem in one error, each with its line and its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cascade.config import schema
from cascade.config.document import Document, KeyPath, Problem, Unreadable, read_document
from cascade.config.nearest import suggest
from cascade.errors import ConfigError

_MAX_BYTES = 1_048_576

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}


def load_config(path: Path) -> schema.Config:
    """Read and check a configuration file.

    Parameters
    ----------
    path : Path
        The file, `cascade.yaml` by custom.

    Returns
    -------
    Config
        The configuration; its `base` is the file's folder.

    Raises
    ------
    ConfigError
        The file cannot be read, or something in it is wrong. The text has one line a problem:
        `cascade.yaml:12: nodes.support-intent.bra: unknown key; did you mean 'bar'?`
    """
    text = _read_text(path)
    try:
        document = read_document(text)
    except Unreadable as error:
        raise ConfigError(_line(path, error.problem)) from None
    data = document.data
    if data is None:
        raise ConfigError(
            f"{path.name}:1: the file is empty; it needs nodes and the chat rung that teaches them"
        )
    if not isinstance(data, dict):
        found = _found(document, (), data)
        raise ConfigError(
            f"{path.name}:{document.line(())}: expected keys and values at the top, found {found}"
        )
    problems = list(document.problems)
    context = {"base": path.absolute().parent, "kinds": _kinds(data)}
    config: schema.Config | None = None
    try:
        config = schema.Config.model_validate(data, context=context)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.extend(_problems(document, detail))
    if problems or config is None:
        problems.sort(key=lambda problem: problem.line)
        lines = dict.fromkeys(_line(path, problem) for problem in problems)
        # Without a cause: pydantic's own text shows the values, and one of them may be a secret.
        raise ConfigError("\n".join(lines)) from None
    return config


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file at {path.absolute()}; Cascade reads cascade.yaml in the working folder, "
            "or the file that --config names"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot read the configuration file {path}: {reason}") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path.name}: larger than {_MAX_BYTES} bytes, which no configuration needs")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path.name}:{line}: not UTF-8; save the file as UTF-8") from None


def _kinds(data: dict[str, Any]) -> dict[str, str | None]:
    kinds: dict[str, str | None] = {name: rung.kind for name, rung in schema.default_rungs().items()}
    rungs = data.get("rungs")
    if isinstance(rungs, dict):
        for name, rung in rungs.items():
            kind = rung.get("kind") if isinstance(rung, dict) else None
            kinds[name] = kind if isinstance(kind, str) and kind in schema.RUNG_KINDS else None
    return kinds


def _problems(document: Document, detail: ErrorDetails) -> list[Problem]:
    path = _key_path(detail["loc"])
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "several":
        return [
            Problem(document.line((*path, *where)), (*path, *where), text)
            for where, text in context["problems"]
        ]
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        path = (*path, "kind")
    return [Problem(document.line(path), path, _text(document, path, detail))]


def _key_path(loc: tuple[int | str, ...]) -> KeyPath:
    """Turn pydantic's location into the path of the key, as it stands in the file."""
    if loc and loc[-1] == "[key]":
        return loc[:-1]
    if len(loc) > 2 and loc[0] == "rungs":
        return (*loc[:2], *loc[3:])  # loc[2] is the kind, which picked the model
    return loc


def _text(document: Document, path: KeyPath, detail: ErrorDetails) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    found = _found(document, path, value)
    if kind == "extra_forbidden":
        model = _model_at(path[:-1], document.data)
        keys = [field.alias or name for name, field in model.model_fields.items()]
        return f"unknown key; {suggest(str(path[-1]), keys, 'keys here')}"
    if kind == "wrong":
        return str(context["text"])
    if kind == "missing":
        return "this key is required"
    if kind == "union_tag_not_found":
        return f"this key is required: one of {', '.join(schema.RUNG_KINDS)}"
    if kind == "union_tag_invalid":
        tag = str(context["tag"])[:40]
        return f"unknown kind {tag!r}; {suggest(tag, schema.RUNG_KINDS, 'kinds')}"
    if kind == "string_type" and isinstance(value, bool | int | float) and path[-1] != "api_key_env":
        return f"expected a text, found {found}; put it in quotes"
    return f"expected {_expectation(kind, context, detail['msg'])}, found {found}"


def _expectation(kind: str, context: dict[str, Any], message: str) -> str:
    match kind:
        case "expected":
            return str(context["what"])
        case "greater_than_equal":
            return f"at least {context['ge']:g}"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "less_than_equal":
            return f"at most {context['le']}"
        case "literal_error":
            return str(context["expected"])
        case "too_short":
            return f"at least {context['min_length']} of them"
        case _:
            return _EXPECTED.get(kind, message)


def _model_at(path: KeyPath, data: Any) -> type[BaseModel]:
    """Give the model of the section at `path`."""
    model: type[BaseModel] = schema.Config
    kinds = _kinds(data)
    at = 0
    while at < len(path):
        part = path[at]
        if model is schema.Config and part == "rungs" and len(path) > at + 1:
            model = schema.RUNG_KINDS[kinds[str(path[at + 1])] or ""]
            at += 2
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        found = _section_of(fields[str(part)].annotation) if part in fields else None
        if found is None:
            return model
        # A mapping or a list of sections has a name or an index before the section's own keys.
        nested = get_origin(fields[str(part)].annotation) in (dict, tuple, list)
        model = found
        at += 2 if nested else 1
    return model


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Give the section that an annotation such as `X`, `X | None` or `dict[str, X]` is about."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _section_of(inner)
        if found is not None:
            return found
    return None


def _found(document: Document, path: KeyPath, value: Any) -> str:
    """Say shortly what stands at `path`, but never what may be a secret."""
    if path and path[-1] == "api_key_env":
        return "something else"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    written = document.written.get(path, str(value))[:40]
    if isinstance(value, bool) and written.lower() not in {"true", "false"}:
        return f"{written} (which YAML reads as {str(value).lower()})"
    return written


def _line(path: Path, problem: Problem) -> str:
    key = ""
    for part in problem.path:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            shown = part if part and part.isprintable() and len(part) <= 80 else repr(part[:80])
            key += f".{shown}" if key else shown
    text = " ".join(problem.text.split())
    return f"{path.name}:{problem.line}: {key}: {text}" if key else f"{path.name}:{problem.line}: {text}"

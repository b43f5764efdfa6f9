"""What pydantic found wrong in a config, told as a person can mend it: key, value, what is allowed.

Promises: one line a wrong key, however many alternatives its type had; the value of a key that may hold
a secret is never shown, nor that of an unknown key (which may be a secret in the wrong place).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_SECRET = re.compile(r"pass|secret|token|credential|(?:^|_)key$", re.IGNORECASE)

Place = tuple[str | int, ...]


def problems_of(error: ValidationError, raw: dict[str, Any], model: type[BaseModel]) -> list[str]:
    """One line a wrong key: `route[0].port: 70000 is not allowed; a whole number from 1 to 65535`."""
    lines: dict[str, str] = {}
    for found in error.errors(include_url=False):
        place = _in_raw(found["loc"], raw, found["type"])
        key = key_text(place)
        line = _line(place, found["type"], found.get("ctx", {}), raw, model)
        lines.setdefault(key, f"{key}: {line}")
    return list(lines.values())


def key_text(place: Iterable[str | int]) -> str:
    """`route[0].port` for ("route", 0, "port")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown(value: object, key: str = "") -> str:
    """A config value as TOML would write it, short; `(hidden)` when its key may hold a secret."""
    if is_secret(key):
        return "(hidden)"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "a list of tables"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def is_secret(key: str) -> bool:
    """Whether a key may hold a secret itself; one that names a file does not."""
    return bool(_SECRET.search(key)) and not key.endswith(("_file", "tls_key"))


def nearest(word: str, known: Sequence[str]) -> str:
    """` did you mean "x"?`, or what there is, or nothing when there is nothing."""
    by_fold = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6)
    starts = [name for name in known if name.lower().startswith(f"{word.lower()}_")]
    if close or starts:
        return f'did you mean "{by_fold[close[0]] if close else starts[0]}"?'
    return f"known are {', '.join(sorted(set(known)))}" if known else "there is none"


def known_tables(model: BaseModel, names: Iterable[str]) -> list[str]:
    """Those of the dotted table names that are filled in."""
    found = []
    for name in names:
        value: object = model
        for part in name.split("."):
            value = getattr(value, part)
        if value not in (None, []):
            found.append(name)
    return found


def _in_raw(place: Place, raw: object, kind: str) -> Place:
    """The place without pydantic's own steps (names of union members) at its end."""
    known: list[str | int] = []
    value = raw
    for part in place:
        inside = isinstance(part, int) and part < len(value) if isinstance(value, list) else False
        if inside or (isinstance(value, dict) and part in value):
            value = value[part]  # type: ignore[index]
        elif kind == "missing" and part == place[-1]:
            return (*known, part)
        else:
            break
        known.append(part)
    return tuple(known)


def _value_at(raw: object, place: Place) -> object:
    for part in place:
        raw = raw[part]  # type: ignore[index]
    return raw


def _model_of(annotation: object) -> type[BaseModel] | None:
    """The table behind an annotation: itself, or what a list or an optional holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := _model_of(arg))), None)


def _field_at(model: type[BaseModel] | None, place: Place) -> FieldInfo | None:
    found: FieldInfo | None = None
    for part in place:
        if isinstance(part, int):
            continue
        found = model.model_fields.get(part) if model else None
        model = _model_of(found.annotation) if found else None
    return found


def _table_at(model: type[BaseModel], place: Place) -> type[BaseModel]:
    field = _field_at(model, place)
    return (_model_of(field.annotation) if field else None) or model


def _line(place: Place, kind: str, ctx: dict[str, Any], raw: dict[str, Any], model: type[BaseModel]) -> str:
    name = next((str(p) for p in reversed(place) if isinstance(p, str)), "")
    if kind == "missing":
        field = _field_at(model, place)
        return f"missing; {_meaning(model, place, name)}" if field else "missing"
    if kind == "extra_forbidden":
        return f"unknown key; {_known(model, place, name)}"
    value = _value_at(raw, place)
    allowed = _allowed(_field_at(model, place), kind, ctx, value, place)
    return f"{shown(value, name)} is not allowed; {allowed}"


def _known(model: type[BaseModel], place: Place, name: str) -> str:
    table = _table_at(model, place[:-1]) if len(place) > 1 else model
    if len(place) == 1:  # a table at the top: it may stand one deeper, as smtp does in intake
        for outer, field in model.model_fields.items():
            inner = _model_of(field.annotation)
            if inner and name in inner.model_fields and outer in ("intake", "evidence"):
                return f'did you mean "{outer}.{name}"?'
    return nearest(name, list(table.model_fields))


def _meaning(model: type[BaseModel], place: Place, name: str) -> str:
    table = _table_at(model, place[:-1])
    field = table.model_fields[name]
    return f"it has to be given: {_type_text(field, '')}"


def _allowed(field: FieldInfo | None, kind: str, ctx: dict[str, Any], value: object, place: Place) -> str:
    match kind:
        case "value_error":
            return str(ctx.get("error", "")) or "see config.example.toml"
        case "literal_error":
            return f"one of {str(ctx.get('expected', '')).replace(chr(39), chr(34)).replace(' or ', ', ')}"
        case "list_type" if isinstance(value, dict):
            return f"there may be several: write [[{key_text(place)}]]"
        case "list_type":
            return "a list in [ ]"
        case "model_type" | "model_attributes_type" | "dict_type" | "dataclass_type":
            return f"a table: write [{key_text(p for p in place if isinstance(p, str))}]"
        case "too_short":
            return "a list with at least one item"
        case "path_type":
            return "a text: a path, relative to this file"
    return _type_text(field, kind) if field else kind.replace("_", " ")


def _type_text(field: FieldInfo, kind: str) -> str:
    """What a field takes, from its type and its bounds."""
    annotation = str(field.annotation)
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    if kind.startswith("ip_") or "IPv4Network" in annotation:
        return "a network like 10.0.0.0/8 or 2001:db8::/32"
    if field.annotation is bool or kind.startswith("bool"):
        return "true or false"
    if field.annotation is int or kind.startswith("int"):
        if low is not None and high is not None:
            return f"a whole number from {low} to {high}"
        return f"a whole number from {low} up" if low is not None else "a whole number"
    if "Path" in annotation:
        return "a text: a path, relative to this file"
    if get_args(field.annotation) and all(isinstance(a, str) for a in get_args(field.annotation)):
        return "one of " + ", ".join(f'"{a}"' for a in get_args(field.annotation))
    if "list[str]" in annotation:
        return "a list of texts" if kind != "string_type" else "a text"
    return "a text, not empty" if field.is_required() else "a text"

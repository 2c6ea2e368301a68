"""Strict TOML: a file is read into frozen dataclasses, and whatever does not fit is refused with its place."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from openssi.errors import Error

T = TypeVar("T")

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def load(path: Path, schema: type[T]) -> T:
    """Read the TOML file ``path`` into the dataclass ``schema``.

    A key is its field's name with hyphens for underscores. A field may be a str, int, float, bool, Path, an
    optional one of them, ``tuple[X, ...]``, ``dict[str, X]`` or another dataclass. Error names file, table and
    key of what is unknown, missing or ill-typed; ``ValueError`` from a ``__post_init__`` is reported the same way.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise Error(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise Error(f"{path}: {problem}") from None
    return parse(text, schema, str(path))


def parse(text: str, schema: type[T], where: str) -> T:
    """Like load(), from text; ``where`` stands for the file's name in errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise Error(f"{where}: not TOML: {problem}") from None
    value = _table(document, schema, where, "")
    return typing.cast(T, value)


def _fail(where: str, table: str, message: str) -> Error:
    return Error(f"{where}: {table}: {message}" if table else f"{where}: {message}")


def _table(raw: object, schema: type, where: str, table: str) -> object:
    if not isinstance(raw, dict):
        raise _fail(where, table, f"expected a table, got {_describe(raw)}")
    hints = typing.get_type_hints(schema)
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(schema)}
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            known = f"did you mean '{near[0]}'? known: " if near else "known: "
            raise _fail(where, table, f"unknown key '{key}' ({known}{', '.join(fields)})")
    values: dict[str, object] = {}
    for key, field in fields.items():
        if key in raw:
            values[field.name] = _value(raw[key], hints[field.name], where, table, key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise _fail(where, table, f"missing key '{key}'")
    try:
        return schema(**values)
    except ValueError as problem:
        raise _fail(where, table, str(problem)) from None


def _value(raw: object, hint: Any, where: str, table: str, key: str) -> object:
    origin = typing.get_origin(hint)
    place = f"{table}.{key}" if table else key
    if origin in (types.UnionType, typing.Union):
        (inner,) = [each for each in typing.get_args(hint) if each is not type(None)]
        return _value(raw, inner, where, table, key)
    if dataclasses.is_dataclass(hint):
        return _table(raw, typing.cast(type, hint), where, place)
    if origin is tuple:
        if not isinstance(raw, list):
            raise _fail(where, table, f"key '{key}': expected an array, got {_describe(raw)}")
        inner = typing.get_args(hint)[0]
        return tuple(_value(each, inner, where, table, f"{key}[{i}]") for i, each in enumerate(raw))
    if origin is dict:
        if not isinstance(raw, dict):
            raise _fail(where, table, f"key '{key}': expected a table, got {_describe(raw)}")
        inner = typing.get_args(hint)[1]
        return {name: _value(each, inner, where, place, name) for name, each in raw.items()}
    return _scalar(raw, hint, where, table, key)


def _scalar(raw: object, hint: Any, where: str, table: str, key: str) -> object:
    if hint is Path and isinstance(raw, str):
        return Path(raw)
    if hint is float and type(raw) is int:
        return float(raw)
    if type(raw) is not hint:
        word = _WORDS.get(str if hint is Path else hint, str(hint))
        raise _fail(where, table, f"key '{key}': expected {word}, got {_describe(raw)}")
    return raw


def _describe(raw: object) -> str:
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "an array"
    return f"{_WORDS.get(type(raw), type(raw).__name__)} ({raw!r})"

"""From flags, `DEDUP_*` variables and two settings files to one `Settings`, remembering where each value came from.

Promises: flag, then variable, then `.dedup.toml` of the current folder, then the user's own file, then the default,
value by value; a word that is no setting, or a value of the wrong kind or outside its range, stops the run and is
named with the place where it stands.
Does not: know what a setting is for.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dedup.errors import UsageError
from dedup.settings import Settings

LOCAL_FILE = ".dedup.toml"
DEFAULT = "default"

_FOLDERS = ("prefer", "protect")
"""Settings that name places: `~` is the home folder, and a relative one starts at the file that says it."""

_LEAST = {
    "jobs": 0,
    "hash_radius_bits": 0,
    "max_pixels": 1,
    "memory_limit_bytes": 64 << 20,
    "decode_timeout_s": 0.1,
}
_MOST = {"jobs": 1024, "hash_radius_bits": 31}
"""Half of a hash's 64 bits is what two unrelated photos differ by."""

_YES_AND_NO = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The settings of a run and, for each of its fields, who said so."""

    settings: Settings
    origins: Mapping[str, str]


def user_file() -> str:
    """The user's own settings file, whether or not it is there."""
    import platformdirs

    return os.path.join(platformdirs.user_config_dir("dedup", appauthor=False), "config.toml")


def choose_settings(flags: Mapping[str, Any], config: str | None, environment: Mapping[str, str]) -> Chosen:
    """Put the layers on top of each other.

    Parameters
    ----------
    flags
        Settings given on the command line; None or an empty tuple where one was not given.
    config
        A file to read in place of `.dedup.toml` and the user's own; it must be there.
    environment
        Usually `os.environ`.

    Raises
    ------
    UsageError
        For an unknown name, a wrong kind of value, or one out of range.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_KINDS, DEFAULT)

    def lay(name: str, value: Any, origin: str) -> None:
        _check_range(name, value, origin)
        values[name], origins[name] = value, origin

    for path in (config,) if config else (user_file(), LOCAL_FILE):
        for key, raw in _read_file(path, must_be_there=bool(config)).items():
            name = _known_name(key, path)
            value = _from_toml(name, raw, path)
            lay(name, _placed(name, value, os.path.dirname(os.path.abspath(path))), path)
    for name in _KINDS:
        variable = f"DEDUP_{name.upper()}"
        if environment.get(variable):
            lay(name, _placed(name, _from_text(name, environment[variable], variable), os.getcwd()), variable)
    for name, value in flags.items():
        if value is not None and value != ():
            lay(name, _placed(name, value, os.getcwd()), flag_of(name, value))
    return Chosen(Settings(**values), origins)


def flag_of(name: str, value: Any = None) -> str:
    """The option of a setting: `--no-neighbours` for `neighbours` when it is switched off."""
    return f"--no-{name.replace('_', '-')}" if value is False else f"--{name.replace('_', '-')}"


_KINDS: dict[str, str] = {field.name: str(field.type) for field in fields(Settings)}


def _read_file(path: str, must_be_there: bool) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError as error:
        if not must_be_there:
            return {}
        raise UsageError(f"{path}: there is no such settings file") from error
    except OSError as error:
        raise UsageError(f"{path}: this settings file cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: this settings file is not TOML: {error}") from error


def _known_name(key: str, path: str) -> str:
    name = key.replace("-", "_")
    if name in _KINDS:
        return name
    near = difflib.get_close_matches(name, _KINDS, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `dedup config` lists them all"
    raise UsageError(f"{path}: there is no setting {key}{hint}")


_ACCEPTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda raw: isinstance(raw, str)),
    "bool": ("true or false", lambda raw: isinstance(raw, bool)),
    "int": ("a whole number", lambda raw: isinstance(raw, int) and not isinstance(raw, bool)),
    "float": ("a number", lambda raw: isinstance(raw, int | float) and not isinstance(raw, bool)),
    "tuple[str, ...]": (
        "a list of texts",
        lambda raw: isinstance(raw, list) and all(isinstance(entry, str) for entry in raw),
    ),
}


def _from_toml(name: str, raw: Any, path: str) -> Any:
    words, accepts = _ACCEPTED[_KINDS[name]]
    if not accepts(raw):
        raise UsageError(f"{path}: {name} must be {words}, not {raw!r}")
    return tuple(raw) if isinstance(raw, list) else float(raw) if _KINDS[name] == "float" else raw


def _from_text(name: str, text: str, variable: str) -> Any:
    kind = _KINDS[name]
    try:
        match kind:
            case "bool":
                return _YES_AND_NO[text.strip().lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "tuple[str, ...]":
                return tuple(part for part in text.split(os.pathsep) if part)
    except (KeyError, ValueError) as error:
        raise UsageError(f"{variable}: must be {_ACCEPTED[kind][0]}, not {text!r}") from error
    return text


def _placed(name: str, value: Any, folder: str) -> Any:
    """A place with `~` put in and, if relative, seen from where it was said."""
    if name == "db" and value:
        return os.path.join(folder, os.path.expanduser(value))
    if name in _FOLDERS:
        return tuple(os.path.normpath(os.path.join(folder, os.path.expanduser(entry))) for entry in value)
    return value


def _check_range(name: str, value: Any, origin: str) -> None:
    if name in _LEAST and not value >= _LEAST[name]:
        raise UsageError(f"{origin}: {name} must be at least {_LEAST[name]}, not {value}")
    if name in _MOST and value > _MOST[name]:
        raise UsageError(f"{origin}: {name} must be at most {_MOST[name]}, not {value}")

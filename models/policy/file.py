"""Reads policies from TOML files; errors name the line, the problem and how to fix it."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec

from models.parameters import Parameters
from models.policy.build import build
from models.policy.form import TABLES, PolicySpec, Spec
from models.policy.line_numbers import line_of
from models.policy.parameters_file import read_parameters
from models.policy.policy import Policy
from models.policy.problems import PolicyError, Problem, read_toml

SHIPPED: Final = ("retail-three-tier", "annual-spend", "subscription-like", "pyramid", "rfm-quintiles")


def load(name_or_path: str | Path) -> Policy:
    """A shipped policy by its id, or the policy in a file. Raises PolicyError.

    >>> load("annual-spend").ref
    'annual-spend@1'
    """
    name = str(name_or_path)
    if name in SHIPPED:
        text = (resources.files("models") / "policies" / f"{name}.toml").read_text("utf-8")
        return parse(text, f"{name}.toml")
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        fix = f"Give the path of a TOML file or one of {', '.join(SHIPPED)}"
        raise PolicyError(name, [Problem(1, "", f"can't read it: {reason}", fix)]) from None
    return parse(text, name, Path(name).parent)


def parse(text: str, source: str = "policy", folder: Path | None = None) -> Policy:
    """The policy in a TOML text; the parameters file that it names is relative to `folder`. Raises PolicyError with all
    problems.
    """
    raw = read_toml(text, source)
    return _built(raw, text, source, _put_in_parameters(raw, text, source, folder))


def with_parameters(policy: Policy, parameters: Parameters) -> Policy:
    """The same policy with these fitted parameters instead of its own. Raises PolicyError."""
    made = parse_with(policy.text, parameters, policy.ref)
    return replace(made, parameters=policy.parameters, edition=policy.edition)


def parse_with(text: str, parameters: Parameters | None, source: str = "policy") -> Policy:
    """The policy in a TOML text, with these fitted parameters, if any, instead of those that it has or names.

    It reads no file. Raises PolicyError.
    """
    raw = read_toml(text, source)
    risk = raw.get("risk")
    if parameters is None:
        if isinstance(risk, dict) and "parameters" in risk:
            where, fix = "risk.parameters", "Send the parameters along"
            raise PolicyError(source, [Problem(line_of(text, where), where, "names a file that is not here", fix)])
        return _built(raw, text, source, None)
    fitted = parameters.as_policy()
    for name in ("parameters", *fitted["risk"]):
        if isinstance(risk, dict) and name not in ("complaints", "satisfaction"):
            risk.pop(name, None)
    _merge(raw, fitted)
    return _built(raw, text, source, parameters)


def _built(raw: dict[str, Any], text: str, source: str, parameters: Parameters | None) -> Policy:
    try:
        spec = msgspec.convert(raw, PolicySpec)
    except msgspec.ValidationError as error:
        raise PolicyError(source, [_problem_of_form(text, str(error))]) from None
    return build(spec, text, source, parameters)


def _put_in_parameters(raw: dict[str, Any], text: str, source: str, folder: Path | None) -> Parameters | None:
    """Merge the parameters file that a policy names, if it names one, into the policy's tables."""
    risk = raw.get("risk")
    name = risk.get("parameters") if isinstance(risk, dict) else None
    if not isinstance(risk, dict) or not isinstance(name, str):
        return None
    parameters = read_parameters((folder or Path()) / name)
    fitted = parameters.as_policy()
    value = raw.setdefault("value", {})
    twice = [f"risk.{key}" for key in fitted["risk"] if key in risk and key not in ("complaints", "satisfaction")]
    if isinstance(value, dict) and "spend" in value and "value" in fitted:
        twice.append("value.spend")
    if twice:
        fix = "Remove it here, or remove parameters"
        problems = [Problem(line_of(text, path), path, f"{name} has it too", fix) for path in twice]
        raise PolicyError(source, problems)
    if isinstance(value, dict) and parameters.spend is not None:
        if parameters.spend.currency != raw.get("currency"):
            problem = Problem(
                line_of(text, "currency"),
                "currency",
                f"{name} was fitted to amounts in {parameters.spend.currency}",
                "Fit again under this policy",
            )
            raise PolicyError(source, [problem])
    _merge(raw, fitted)
    return parameters


def _merge(raw: dict[str, Any], fitted: dict[str, dict[str, Any]]) -> None:
    """Merge fitted values into a policy's tables; within a table that exists, only the fitted keys are replaced."""
    for table, values in fitted.items():
        into = raw.setdefault(table, {})
        for key, value in values.items():
            own = into.get(key)
            into[key] = {**own, **value} if isinstance(own, dict) and isinstance(value, dict) else value


def _problem_of_form(text: str, message: str) -> Problem:
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    unknown = re.match(r"Object contains unknown field `(.+)`", what)
    if unknown:
        close = difflib.get_close_matches(unknown[1], _table_at(path).__struct_fields__, 1)
        where = f"{path}.{unknown[1]}".lstrip(".")
        fix = f"Did you mean {close[0]!r}?" if close else "Remove it"
        return Problem(line_of(text, where), where, "there is no such setting", fix)
    missing = re.match(r"Object missing required field `(.+)`", what)
    if missing:
        where = f"{path}.{missing[1]}".lstrip(".")
        return Problem(line_of(text, path), where, "is missing", f"Add {missing[1]} = ... there")
    fix = "Write a value of that kind"
    if what.startswith("Invalid enum value"):
        table, _, name = path.rpartition(".")
        allowed = get_args(get_type_hints(_table_at(table))[name])
        fix = f"Write one of {', '.join(allowed)}"
    return Problem(line_of(text, path), path, what[:1].lower() + what[1:], fix)


def _table_at(path: str) -> type[Spec]:
    """The spec of the table at a path such as `risk.levels[0]`."""
    return TABLES.get(re.sub(r"\[\d+\]", "", path), PolicySpec)

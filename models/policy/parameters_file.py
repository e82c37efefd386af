"""Reads a file of fitted parameters, which a policy names in `[risk] parameters`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from models.parameters import FORM, Parameters
from models.policy.line_numbers import line_of
from models.policy.problems import PolicyError, Problem, read_toml


def read_parameters(path: Path) -> Parameters:
    """The parameters in a file. Raises PolicyError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        fix = "Make it with tierstream policy fit LOG --out FILE, or name another in [risk] parameters"
        raise PolicyError(str(path), [Problem(1, "", f"can't read it: {reason}", fix)]) from None
    raw = read_toml(text, str(path))
    if raw.get("form") != FORM:
        fix = "Fit again with this version"
        raise PolicyError(str(path), [Problem(line_of(text, "form"), "form", f"is not {FORM}", fix)])
    try:
        found = msgspec.convert(raw, Parameters)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        where = where.rstrip("`").lstrip(".")
        fix = "Mend it, or fit again with tierstream policy fit"
        raise PolicyError(str(path), [Problem(line_of(text, where), where, what, fix)]) from None
    try:
        _ = found.fit.ends_ms
    except ValueError as error:
        problem = Problem(line_of(text, "fit.ends"), "fit.ends", str(error), "Write it as the fit did, in RFC 3339")
        raise PolicyError(str(path), [problem]) from None
    return found

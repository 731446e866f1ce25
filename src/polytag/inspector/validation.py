"""Says what a parameter must be, in place of a validator's message. No sentence repeats the input."""

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "min_labels": "The smallest number of labels",
    "max_labels": "The largest number of labels",
    "class": "The class",
    "region": "The region of the map",
    "based_on": "The number of the last row",
}
_WHOLE, _NUMBER = "a whole number", "a number"
_KINDS = {
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _WHOLE + " of fewer digits",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
}


def sentence(error: Mapping[str, Any]) -> str:
    """Return what is wrong with one part of a request: "The largest number of labels (max_labels) must be 0 or more."."""
    key = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "body")
    subject = f"{_NAMES[key]} ({key})" if key in _NAMES else f"The parameter {key}"
    kind, limits = str(error["type"]), error.get("ctx", {})
    if kind == "missing":
        return f"{subject} is missing."
    if kind == "json_invalid":
        return "The body of the request is not JSON."
    if kind == "value_error":
        return f"{subject}: {limits['error']}."
    expected = _KINDS.get(kind) or _limit(kind, limits)
    return f"{subject} must be {expected}." if expected else f"{subject}: {error['msg']}."


def _limit(kind: str, limits: Mapping[str, Any]) -> str:
    """Return the limit that a value breaks, as a part of a sentence; "" for another kind of error."""
    match kind:
        case "greater_than_equal":
            return f"{limits['ge']:,g} or more"
        case "greater_than":
            return f"more than {limits['gt']:,g}"
        case "less_than_equal":
            return f"{limits['le']:,g} or less"
        case "less_than":
            return f"less than {limits['lt']:,g}"
        case "literal_error":
            return str(limits["expected"])
        case "string_too_long":
            return f"at most {limits['max_length']:,} characters long"
        case "too_long":
            return f"at most {limits['max_length']:,} values"
        case "too_short":
            return f"at least {limits['min_length']:,} values"
        case _:
            return ""

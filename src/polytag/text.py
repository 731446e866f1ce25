"""Numbers and counts as people read them."""

_SINGULAR = {"classes": "class"}


def counted(number: int, unit: str) -> str:
    """A count with its unit, a plural: "1 class", "5,823 images"."""
    return f"{number:,} {_SINGULAR.get(unit, unit.removesuffix('s')) if number == 1 else unit}"

"""The hash of a recipe, which content credentials state. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def recipe_sha256(recipe: Mapping[str, Any]) -> str:  # Any: JSON
    """SHA-256 of the recipe as JSON with sorted names and without spaces, in hex.

    >>> recipe_sha256({"b": 1, "a": "ä"}) == recipe_sha256({"a": "ä", "b": 1})
    True
    """
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

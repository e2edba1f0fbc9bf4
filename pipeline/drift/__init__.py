"""How far an edit moved what it should not: shift, scale and colour against its source."""

from .comparing import Comparison, compare
from .measuring import Drift, align, measure
from .reporting import describe, to_json

__all__ = ["Comparison", "Drift", "align", "compare", "describe", "measure", "to_json"]

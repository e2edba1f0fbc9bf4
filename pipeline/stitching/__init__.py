"""Many references to few: four to twelve pictures become three composites.

The model was trained on at most three references. A composite is cut into rows and columns, over
and over, until every piece has the shape of its picture: no white space, nothing cropped away, and
nothing stretched beyond the rounding to whole pixels.
"""

from .layouts import Composite, Tile, plan
from .stitch import COUNT, Stitched, stitch

__all__ = ["COUNT", "Composite", "Stitched", "Tile", "plan", "stitch"]

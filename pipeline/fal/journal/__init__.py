"""The journal of paid edits: what was ordered, what came of it, and where the pictures lie.

It outlives every process. An edit is written down before it is sent, so that no crash, lost answer
or second process can order it twice, and its pictures are on disk before it counts as done.
"""

from .claims import new_visit
from .entries import ACCEPTED, COLLECTABLE, Claim, Entry, Order, Shape, State, Visit
from .folders import PerFolder
from .journal import Journal, journal_in
from .room import Room, clear, room_of
from .tidying import tidy

__all__ = [
    "ACCEPTED",
    "COLLECTABLE",
    "Claim",
    "Entry",
    "Journal",
    "Order",
    "PerFolder",
    "Room",
    "Shape",
    "State",
    "Visit",
    "clear",
    "journal_in",
    "new_visit",
    "room_of",
    "tidy",
]

"""Doubles: real stand-ins for what the tests must not reach."""

"""Slash commands.

table.py       which there are
session.py     of sessions and files; tree.py: of versions; report.py: of numbers
ui.py          what they need of the screen
"""

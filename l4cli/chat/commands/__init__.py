"""Slash commands.

table.py       the list of all commands, and the code that runs one
session.py     commands for sessions, files and settings
tree.py        commands for branches and versions of messages
model.py       the command that switches to another model
report.py      commands that show numbers and settings
ui.py          the protocol through which commands talk to the user
"""

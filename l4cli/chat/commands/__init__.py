"""Slash commands.

table.py       the list of all commands in groups, and the code that runs one
command.py     what a command is
help.py        what /help shows
session.py     commands for sessions, files and settings
tree.py        commands for branches and versions of messages
templates.py   the command that asks with a template
model.py       the command that switches to another model
report.py      commands that show numbers and settings
ui.py          the protocol through which commands talk to the user
"""

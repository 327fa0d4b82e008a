"""The messages of a chat, all their versions, and the files that keep them.

conversation.py   messages, and the conversation from the first to the last (pure)
tree.py           all versions of all messages (pure)
drawing.py        a tree as lines of text, for /tree (pure)
records.py        a tree as lines of a log, and back (pure)
session_file.py   session files and their locks
log.py            reads a session file and adds what has changed since
export.py         /save PATH and /load PATH: one branch as plain messages
"""

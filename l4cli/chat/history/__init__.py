"""What was said: the conversation, all its versions, and the file they are kept in.

conversation.py   messages (pure)
tree.py           all versions of them (pure); drawing.py: as /tree shows them
records.py        a tree as lines of a log, and back (pure)
session_file.py   the files and their locks; log.py: what of a chat is on disk
export.py         /save PATH: one branch as plain messages
"""

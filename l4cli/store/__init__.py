"""Computed prefixes on disk, for the next process that asks about the same text.

chain.py       pure: the segments that a prefix is stored in, and their file names
state_file.py  one segment: written completely or not at all, checked before it is loaded
directory.py   all segments on this machine: found, counted, pruned
catalogue.py   the documents that the segments belong to, for `l4 docs`
reuse.py       restores prefixes from disk into the engine, and saves them
"""

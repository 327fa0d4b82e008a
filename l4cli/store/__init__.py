"""Computed prefixes on disk, for the next process that asks about the same text.

chain.py       pure: which segments a prefix is cut into, and what each of them is called
state_file.py  one segment: written whole or not at all, checked before it is loaded
directory.py   all segments on this machine: found, counted, pruned
reuse.py       between the engine's prefixes and those on disk
"""

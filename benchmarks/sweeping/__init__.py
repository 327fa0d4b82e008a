"""Members of a kind by the hundred thousand: `kinds.py` names the kinds, `worker.py` tries members
in a process of its own, `watch.py` watches that process and counts what comes of them.
"""

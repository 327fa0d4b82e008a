"""Behind `l4 bench`: measures the speed of prefill and decode at several batch sizes and depths.

grid.py     pure: which points to measure
measure.py  times one point on a backend
session.py  a whole bench of a loaded model
machine.py  the memory that the process takes, and the note about a busy machine
report.py   pure: the results as a table and as JSON
"""

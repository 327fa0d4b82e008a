"""Behind `l4 experts`: which experts of a mixture of experts a text uses.

sections.py   what is counted: a text, a prompt or rows, as token ids; the windows to compute
classes.py    pure: the class of a token: word, number, code …
counts.py     pure: how often each expert was chosen, by class of token and by row
session.py    takes a model through the windows and counts
figures.py    pure: counts -> evenness, hottest and unused experts, overlap of two texts
keeping.py    pure: what keeping only the hottest experts in fast memory would save
report.py     pure: the results as tables and as JSON
"""

"""The functions that a model may call, and how its calls are carried out.

toolbox.py     --tools FILE: which functions there are, checked and run
process.py     the process they run in; host.py and functions.py are its inside
rounds.py      calls -> permission.py -> results -> the next answer
calls.py       what in an answer is a call
"""

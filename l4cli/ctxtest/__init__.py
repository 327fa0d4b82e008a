"""Tests how long a context a model can use (`l4 ctx-test`).

Facts are hidden in texts of exact lengths, and the model is asked for them.
"""

"""Embeddings for HTTP clients: the models that make them, each with a thread and a queue.

sharing.py   whose inputs are computed next (pure)
thread.py    the only thread that computes with a model
counts.py    what is counted, for /metrics
served.py    a served model: encodes inputs, asks the thread, writes answers
"""

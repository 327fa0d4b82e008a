"""A name or a path -> a model ready to answer.

options.py    how a model is to be loaded, as it was asked for
file.py       the GGUF it names, opened once: header, shape, fingerprint
decide.py     what was left open is chosen, what cannot fit is refused
contexts.py   how large contexts are made, and over which weights
llm.py        the model: prompts in, completions out
load.py       all of these in order
"""

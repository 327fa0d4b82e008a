"""Loads a model: from a name or a path to an `LLM` that answers prompts.

options.py     LoadOptions: how the caller asked for the model to be loaded
file.py        ModelFile: the GGUF, opened once: header, shape, fingerprint
decision.py    Decision: how the model is actually loaded
decide.py      LoadOptions -> Decision, with the checks that come before loading
choose.py      the part of it that needs arithmetic: fills in "auto", refuses what cannot fit
together.py    several models: sets memory aside for each before the first is loaded
contexts.py    makes the contexts: how large, and over which weights
vocabulary.py  a backend for a model that was loaded without its weights
llm.py         LLM: prompts in, completions out
load.py        all of these in order
embedder_options.py, embedder.py, load_embedder.py: the same for models that make embeddings
"""

"""Finds models: by name, on this machine, and on the Hugging Face Hub.

registry.py    models.toml -> ModelSpec
aliases.py     names of the user's own, written to their models.toml
locate.py      a name or path -> a GGUF, or a checkpoint, on this machine
installed.py   lists the models in the Hub's cache and in l4's own
quants.py      names of a repository's files -> quantization types (pure)
splits.py      the names of a GGUF's split files (pure)
removal.py     removes models from the caches
hub/           downloads from the Hub; nothing else imports huggingface_hub
"""

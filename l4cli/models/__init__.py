"""Which models there are: by name, on this machine, on the Hub.

registry.py    models.toml -> ModelSpec
locate.py      a name or path -> a GGUF, or a checkpoint, on this machine
installed.py   what is in the Hub's cache and l4's own
quants.py      which quantization types files are (pure)
splits.py      the names of a split model's files (pure)
removal.py     taking models out again
hub/           the only room that imports huggingface_hub
"""

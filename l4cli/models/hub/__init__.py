"""The Hugging Face Hub: the only room that imports huggingface_hub.

repository.py  which commit is meant, and its files
checkpoint.py  a checkpoint whose shards are fetched one by one, converted and dropped
pull.py        GGUF files, planned, fetched into the Hub's own cache and checked
reach.py       whether it can be reached
pieces.py      the bytes of a file, in order, over several connections
errors.py      what goes wrong there, in one line with the way out
"""

from l4cli.models.hub.checkpoint import HubCheckpoint, HubShards, open_checkpoint

__all__ = ["HubCheckpoint", "HubShards", "open_checkpoint"]

"""Downloads from the Hugging Face Hub. Nothing else in l4 imports huggingface_hub.

repository.py  looks up a commit and its files
checkpoint.py  a checkpoint whose shards are fetched one by one, converted and deleted
pull.py        plans a download of GGUF files, fetches them into the Hub's cache, checks them
reach.py       whether the Hub can be reached
pieces.py      fetches a file's bytes, in order, over several connections
answers.py     reads what the Hub says, within bounds
errors.py      turns exceptions into HubError: one line that says what to do
"""

from l4cli.models.hub.checkpoint import HubCheckpoint, HubShards, open_checkpoint

__all__ = ["HubCheckpoint", "HubShards", "open_checkpoint"]

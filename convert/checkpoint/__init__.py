"""Hugging Face checkpoints, read: which tensors there are, and what their numbers mean.

checkpoint.py    the tensors of a checkpoint, from headers (or an index) alone
shards.py        the protocol of shards that are elsewhere
tensors.py       a tensor's place in a file
scheme.py        how a checkpoint is quantized; dequantize.py: numbers and scales -> weights
source.py        tensors as an architecture asks for them: known, of the right shape, none left
hparams.py       config.json's values, checked; rope.py: those of position encoding
provenance.py    where a checkpoint comes from, for the GGUF's metadata
"""

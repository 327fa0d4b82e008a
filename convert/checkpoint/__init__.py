"""Reads Hugging Face checkpoints: which tensors they hold, and how to turn them into weights.

checkpoint.py    the tensors of a checkpoint, from headers (or an index) alone
shards.py        the interface to shards that are not on disk and must be fetched
tensors.py       where the weights of an output tensor lie in the checkpoint
scheme.py        how a checkpoint is quantized; dequantize.py: numbers and scales -> weights
source.py        gives tensors to an architecture, and checks their names and shapes
hparams.py       config.json's values, checked; rope.py: those of position encoding
provenance.py    where a checkpoint comes from, for the GGUF's metadata
"""

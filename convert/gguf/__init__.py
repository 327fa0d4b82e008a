"""Reads and writes GGUF headers, and checks whether llama.cpp can load a file safely.

file.py           reads a GGUF's header and checks everything it states
array.py          arrays of the metadata, decoded when needed; model.py: split files read as one
fields.py         encodes metadata and headers
vetting.py        finds what would make llama.cpp end the process
ftypes.py         the types a file can have; qtypes.py: the types a tensor can have
tensor_groups.py  groups tensors by purpose
"""

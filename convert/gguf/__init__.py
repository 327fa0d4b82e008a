"""GGUF files: what their headers say, and whether llama.cpp can be given them.

file.py           a GGUF's header read back, nothing that it says is trusted
array.py          its arrays, decoded when asked for; model.py: split files as one
fields.py         metadata, encoded
vetting.py        what llama.cpp would end the process over, checked before it is given a file
ftypes.py         a file's types; qtypes.py: a tensor's
tensor_groups.py  what tensors are for
"""

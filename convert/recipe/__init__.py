"""Decides the qtype of each tensor.

recipe.py       the qtypes that llama.cpp's quantizer chooses (pure)
model.py        what it needs to know of a model; kept.py: the tensors that it leaves as they are
overrides.py    the qtypes that the user asks for instead
imatrix.py      reads importance matrices, GGUF and legacy
choice.py       combines these three into every tensor's qtype and importance
recognition.py  finds out by which recipe a finished file was made
"""

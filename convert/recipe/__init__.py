"""Which type each tensor is quantized to.

recipe.py       what llama.cpp's quantizer picks (pure)
overrides.py    what the user asks for over it
imatrix.py      importance matrices, GGUF and legacy, read row by row
choice.py       the three together: every tensor's type and importance, or why there is none
recognition.py  by which recipe a finished file was made
"""

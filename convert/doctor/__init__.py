"""What would run wrong though it converts.

checkpoint.py    of any checkpoint; llama4.py: of Llama 4's, of which llama.cpp hard-codes much
gguf.py          of a finished GGUF
"""

"""Finds models that llama.cpp would load but run wrong, or less well than they could.

checkpoint.py    checks a checkpoint; llama4.py: checks what llama.cpp hard-codes for Llama 4
gguf.py          checks a finished GGUF
"""

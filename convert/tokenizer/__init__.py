"""Turns a checkpoint's tokenizer into GGUF metadata.

vocab.py          the whole vocabulary, of either kind
bytelevel.py      reads byte-level BPE; sentencepiece.py: reads SentencePiece
tokens.py         tokens with their types
"""

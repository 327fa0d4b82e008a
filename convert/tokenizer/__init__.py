"""Tokenizers: a checkpoint's vocabulary as GGUF metadata.

vocab.py          the vocabulary, whichever kind it is of
bytelevel.py      byte-level BPE; sentencepiece.py: SentencePiece
tokens.py         tokens with their types
"""

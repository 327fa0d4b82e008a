"""Turns a checkpoint's tokenizer into GGUF metadata.

vocab.py          the whole vocabulary, of any kind
bytelevel.py      reads byte-level BPE; sentencepiece.py: SentencePiece; wordpiece.py: WordPiece
tokens.py         tokens with their types
"""

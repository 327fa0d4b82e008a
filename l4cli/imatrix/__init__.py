"""Behind `l4 imatrix`: how much each column of a model's weights matters, measured on texts.

sums.py       sums of squares of what each column is multiplied with, as llama-imatrix defines them
chunks.py     texts -> chunks of equal length
choosing.py   pure: which chunk is next, and which experts have too few tokens
files.py      imatrix files: read, written at once, merged
partial.py    the file of an unfinished run, and going on from it
session.py    takes a model through the chunks
"""

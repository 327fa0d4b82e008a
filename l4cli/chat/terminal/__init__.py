"""The chat on a terminal: the prompt, keys, and answers as they come.

loop.py        the prompt; bar.py: the line below it
editing.py     what keys do; tty.py: typing while nothing is asked; clipboard.py
render.py      answers, in a region of the screen (region.py), as Markdown (markdown.py)
"""

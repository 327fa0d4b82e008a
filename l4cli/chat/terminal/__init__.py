"""The chat in a terminal: the prompt, its keys, and answers while they are generated.

loop.py        reads lines and runs them
plain.py       the prompt of a terminal that cannot move its cursor
showing.py     lines of the chat in the width of the terminal
bar.py         the line below the prompt
editing.py     keys, completion and history of the prompt
clipboard.py   copies text to the clipboard
render.py      shows an answer: as plain text or as Markdown
markdown.py    Markdown to lines for a terminal
region.py      lines at the bottom of the screen that are rewritten in place
"""

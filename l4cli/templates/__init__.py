"""Templates: questions with variables, and the settings to ask them with, kept by name.

`template.py` says what a template is and fills in its variables; `files.py` reads and writes them.
"""

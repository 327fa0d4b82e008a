"""Questions about whole documents.

preflight.py   pure: what reading them takes, and what would work where it does not fit
session.py     read once, ask often
answering.py   questions as branches of what was read; quoting.py: with proved quotations
loop.py        one question after another in a terminal
split_session.py  the same for what is read in parts
split_preflight.py  pure: what that takes
split_run.py   what does not fit: parts (parts.py) -> notes (split_prompts.py) -> an answer;
               split_journal.py: notes kept as they come; completions.py: many requests
"""

"""Answers questions about whole documents (`l4 ask`).

Documents that fit into the context:

preflight.py        pure: memory and time that reading takes, and alternatives if it does not fit
session.py          prefills the documents once, then answers any number of questions
answering.py        answers several questions at once; all share the documents' prefix
quoting.py          adds quotations from the documents to answers
loop.py             asks for one question after another in a terminal

Longer documents (`--split`), which are read in parts:

split_session.py    the session
split_preflight.py  pure: the calls, memory and time that it takes
split_run.py        parts (parts.py) -> notes (split_prompts.py) -> an answer
split_journal.py    saves each note as soon as it is made
completions.py      runs many requests
"""

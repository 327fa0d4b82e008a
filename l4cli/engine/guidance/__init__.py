"""Answers that must belong to a language: what llguidance is given, and whether it can bear it.

    translate.py      a constraint in llguidance's own words
    trial.py          compiles a constraint in another process first, with limits
    trial_process.py  that process

The package knows no vocabulary: `engine/llamacpp/constraint.py` compiles for one.
"""

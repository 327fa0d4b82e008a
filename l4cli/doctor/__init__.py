"""What `l4 doctor` finds: this machine, what l4 stands on, and what is wrong with it.

    facts.py     all that is found, in one value, and how it is collected
    machine.py   the system, the processor, memory, graphics cards, the terminal
    software.py  llama.cpp, its self-test, the compiler
    folders.py   the user's folders: sizes, and whether they can be written
    problems.py  pure: facts -> problems; mending.py: the lines that mend them

Nothing here loads llama.cpp or numpy into this process. Each collector works where all else is
broken: what cannot be found out is told as unknown.
"""

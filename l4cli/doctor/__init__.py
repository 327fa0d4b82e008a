"""Behind `l4 doctor`: collects facts about the machine and llama.cpp, and finds problems in them.

    facts.py     collects all facts into one value
    machine.py   the system, the processor, memory, graphics cards, the terminal
    software.py  llama.cpp, its self-test, the compiler
    folders.py   the user's folders: sizes, and whether they can be written
    problems.py  pure: facts -> problems
    mending.py   pure: the shell commands that solve problems with llama.cpp's build

Nothing here loads llama.cpp or numpy into this process. Each collector works even if everything
else is broken: what it cannot find out is unknown.
"""

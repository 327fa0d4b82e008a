"""llama.cpp as a native library on this machine: how it is built, and whether it can be trusted.

    cpu.py        which processor this is, and how many cores may be used
    memory.py     how much memory there is
    toolchain.py  what the C++ compiler makes of llama.cpp here, and the flags that mend it
    wheel.py      llama-cpp-python built for this machine, kept, and installed
    build.py      which build of llama.cpp is installed
    rebuild.py    the line that builds it anew, to be pasted into a shell
    selftest.py   whether that build computes correctly here, found out once in a child process
    watcher.py    what is said when llama.cpp ends the process

`cpu`, `toolchain` and `wheel` need nothing but Python's standard library: the set-up runs them
before anything is installed.
"""

"""llama.cpp as a native library on this machine: how it is built, and whether it works correctly.

    cpu.py        which processor this is, and how many cores this process may use
    memory.py     how much memory the machine has, and how much is free
    oom.py        counts the processes that the kernel killed for lack of memory
    cmake.py      reads and writes the variable CMAKE_ARGS
    toolchain.py  whether the C++ compiler compiles llama.cpp correctly, and with which flags
    wheel.py      builds llama-cpp-python for this machine, caches the wheel, and installs it
    build.py      which build of llama.cpp is installed
    rebuild.py    the shell command that builds it again
    selftest.py   whether that build computes correctly here: tested once, in a child process
    watcher.py    explains why the process ended when llama.cpp or the kernel ends it

`cpu`, `cmake`, `build`, `toolchain` and `wheel` need nothing but Python's standard library, because
the set-up runs them before anything is installed.
"""

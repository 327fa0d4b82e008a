"""One file for each command: it parses options, calls the library and prints. `l4cli.app` registers
them.
"""

"""Tools: functions that the model may call, and the code that runs the calls.

toolbox.py      the functions of --tools FILE: their list, and checking and running a call
process.py      the child process that runs the functions, as l4 sees it
host.py         the main program of that process
functions.py    Python functions as tools; only the child process imports it
rounds.py       rounds of calls, their results, and the model's next answer
permission.py   asks the user whether a call may run
calls.py        finds the calls in an answer
"""

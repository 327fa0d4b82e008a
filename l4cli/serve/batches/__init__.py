"""OpenAI's files and batches, kept on disk: rows of requests that are answered in the background.

    upload -> a file -> a batch -> checked -> its turn -> rows and journal -> output and error files

All state lies in one folder, which one server at a time owns. Whatever ends the server, the next
one goes on where it stopped: rows are journaled as those of `l4 run -o FILE` are.
"""

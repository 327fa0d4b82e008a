"""Carries out plans: makes tiles in threads, journals them, then seals and publishes the files.

layout.py      which files an output has, and where each tensor lies in them (pure)
schedule.py    the jobs of a conversion, in the order of the source; tiles.py: makes one tile
pipeline.py    runs the jobs in threads; supply.py: fetches shards ahead of the jobs and drops them
output.py      one planned GGUF and its journal; writer.py: one file of it
journal.py     which byte ranges (ranges.py) are safely on disk
resources.py   how many threads and how much memory to use
"""

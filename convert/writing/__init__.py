"""Plans to files: jobs of tiles through threads, journaled, sealed and named when whole.

layout.py      which files there are, and where each tensor lies in them (pure)
schedule.py    rows of the source -> jobs; tiles.py: jobs -> tiles that fit in memory
pipeline.py    jobs through threads; supply.py: shards fetched ahead of them and dropped after
output.py      a planned GGUF with its journal; writer.py: one of its files
journal.py     which stretches of bytes (ranges.py) are on the disk
resources.py   threads and memory to use
"""

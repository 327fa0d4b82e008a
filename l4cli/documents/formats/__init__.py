"""Files of each format, converted to text with Markdown's marks.

readers.py     bytes -> a document, with the reader of its format; recognize.py says which that is
bounded.py     the same in a child process (worker.py), with limits on its time and memory
html/          web pages;  word/ DOCX;  pdf/ PDF;  epub.py, notebook.py;  archive.py: zip files
notation.py    superscripts, subscripts and formulas that never change a number
converted.py   what readers return
"""

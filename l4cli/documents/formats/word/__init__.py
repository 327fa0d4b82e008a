"""Word documents: DOCX made plain, then HTML, then Markdown."""

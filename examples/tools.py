"""Example functions for a model to call: `l4 chat --tools examples/tools.py`."""

from datetime import datetime
from pathlib import Path


def get_time() -> str:
    """Get the time and the date of today"""
    return datetime.now().strftime("%H:%M, %A %d %B %Y")


def count_words(file: str) -> dict:
    """Count the words and lines of a file

    Args:
        file: the path of a text file
    """
    text = Path(file).read_text("utf-8")
    return {"words": len(text.split()), "lines": len(text.splitlines())}


def get_weather(city: str) -> dict:
    """Get the weather

    Args:
        city: the city
    """
    return {"temperature": len(city) * 7 % 30, "sky": "cloudy"}  # made up

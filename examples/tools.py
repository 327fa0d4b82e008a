"""Functions for a model to call: `l4 chat --tools examples/tools.py`. Try:

- What is the weather in Oslo?
- Set a timer for 20 minutes.
- Book a table for 4 people on Friday.
- Send a mail to Anna.  (There is no function for that.)
"""

from datetime import datetime, timedelta


def get_weather(city: str) -> dict:
    """Get the weather

    Args:
        city: the city
    """
    return {"temperature": len(city) * 7 % 30, "sky": "cloudy"}  # made up


def set_timer(minutes: int) -> dict:
    """Set the timer

    Args:
        minutes: how long, in minutes
    """
    end = datetime.now() + timedelta(minutes=minutes)
    return {"status": "ok", "time": end.strftime("%H:%M")}


def book_table(guests: int, day: str) -> dict:
    """Book the table

    Args:
        guests: number of people
        day: the day of the week
    """
    return {"status": "done", "id": f"T-{guests}{len(day)}"}  # made up

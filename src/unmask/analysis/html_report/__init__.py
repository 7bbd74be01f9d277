"""The HTML report: its page and the browser of runs."""

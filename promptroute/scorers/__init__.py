"""Images and prompts → named scores, maps and marks. A scorer knows nothing of files or of how work is cut up.

Each class says what it takes (`inputs`) and what it gives (`outputs`); `promptroute.scorers.run` does the rest.
"""

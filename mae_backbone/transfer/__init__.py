"""Does a pretraining transfer, and better than another one? Suites of tasks, run as jobs."""

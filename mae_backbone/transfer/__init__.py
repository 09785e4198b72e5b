"""Does a pretraining transfer, and better than another one? Suites of tasks, each cell a job of its own."""

"""A config and the data of a user: what it will read, their folder and classes, and what cannot be used."""

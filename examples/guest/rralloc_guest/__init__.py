"""A guest of rralloc: the least energy to upload, sequential linear programming, oldest first."""

"""What a board receives: one checked set of files, as one `.ekb` file or as a folder. Device side."""

"""Pictures changed on purpose, to see whether a model's answer changes with them: uint8 pictures in and out."""

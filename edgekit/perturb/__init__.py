"""Pictures changed on purpose: attacks, fooling images. Pictures in, pictures out; models are functions."""

"""Pictures changed on purpose: attacks, fooling images, corruptions, movements. Pictures in, pictures out."""

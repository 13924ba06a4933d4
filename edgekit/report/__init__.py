"""What a run found, to look at: HTML, JSON, Markdown, terminal, curves."""

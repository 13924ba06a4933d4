"""What a run measured, as files and on the terminal: JSON, HTML, Markdown, text, training curves.

- `files`: `write_report`, `read_report`
- `page`: the HTML; `charts`, `confusion`, `pictures` prepare what `templates/` draw
- `text`: `render_summary` for the terminal; `markdown`: `render_markdown`
- `curves`: `draw_curves` of a training run
- `findings`: verdict and ratios; `formatting`: numbers as people read them
"""

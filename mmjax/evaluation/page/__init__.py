"""`report.html` of an evaluation. Begin with `report.py`: what the page holds; `template.py` is how it looks."""

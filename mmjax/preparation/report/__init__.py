"""What was kept and dropped. Begin with `summary.py`: counts, histograms and pictures; `page.py` shows them as HTML."""

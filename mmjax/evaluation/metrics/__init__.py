"""Metrics of videos of people: one small file each, one interface (`interface.py`); `registry.py` lists them."""

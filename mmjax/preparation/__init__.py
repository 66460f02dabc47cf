"""From folders of photos and clips to training records; the command is `python -m mmjax.prepare`."""

"""From folders of photos and clips to training records; the command is `python -m mmjax.prepare`.

Begin with `run.py`: the steps in their order, each in a package of its own:

    inputs/      what is there: photos and videos of folders, tars, manifests and data sets, and how they are read
    analysis/    what each item gives: windows with one person in them, and stills that may be references
    animation/   clips that are drawn from photos, where `settings.animated_clips` asks for some
    pairing/     who is whose reference, what is a copy, who is kept for validation
    writing/     pixels, captions and faces encoded; records in shards, shards as a data set
    report/      what was kept and dropped, in numbers and on a page
    processes/   how all that is spread over workers, processes and machines, stopped and gone on with

`items.py` says what travels between them, `settings.py` has every threshold, `reasons.py` why things are dropped.
`framing.py` is how pictures come to a record's size, `captions.py` what a caption has to say.
"""

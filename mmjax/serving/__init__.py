"""A sampler for several people at once: uploads, a queue, one worker, results, and the page that shows them.

    limits     how much of everything one person, and all of them, may have
    form       what somebody asks for: read from values of any kind, from a file's settings, and made into videos
    uploads    pictures that were given, looked at before anything else is done with them
    jobs       what is to be made and what was made, by owner; the queue
    worker     the thread that makes it
    engine     what the worker and the uploads need of a sampler
    residency  whether its encoders stay on the device
    cards      jobs and pictures as HTML, of small `pictures`
    address    where the server answers
    guard      what of it is reachable, and by whom
    routes     files in and out
    page       the page itself, the only module that knows Gradio; `browser` has what of it runs there
    server     all of it put together

Everything but `page` works without Gradio, and everything but `engine` and `residency` without a model.
"""

"""Faults of reading: pictures, videos, colours, texts, numbers and seeds; which way is up; worker processes."""

from tests.planted_faults.fault import Fault

VIDEO, DEINTERLACING, COLOURS = "mmjax/video.py", "mmjax/deinterlacing.py", "mmjax/colours.py"
PICTURES, TEXTS = "mmjax/pictures.py", "mmjax/texts.py"
UPRIGHT, DAMAGE = "mmjax/faces/upright.py", "mmjax/faces/damage.py"
VALIDATION, SEEDS, WORKERS = "mmjax/validation.py", "mmjax/seeds.py", "mmjax/records/pipeline.py"

_VIDEO = ("tests/test_video.py",)
_INPUTS = ("tests/test_video.py", "tests/preparation/test_prepare_inputs.py")
_PICTURES, _TEXTS = ("tests/faces/test_pictures.py",), ("tests/test_texts.py",)
_UPRIGHT, _DAMAGE = ("tests/faces/test_upright.py",), ("tests/faces/test_damage.py",)
_NUMBERS = ("tests/test_numbers.py",)
_WORKERS = (
    "tests/records/test_workers.py::test_the_trainer_hears_signals_again_when_its_workers_are_started",
    "tests/records/test_workers.py::test_workers_leave_signals_to_the_trainer",
    "tests/records/test_workers.py::test_workers_end_with_the_trainer",
)

_VIDEOS = (
    Fault(
        "pixels that are not square stay so",
        VIDEO,
        "shape = self._stream.sample_aspect_ratio or fractions.Fraction(1)",
        "shape = fractions.Fraction(1)",
        _VIDEO,
    ),
    Fault(
        "mirrored videos are shown as they are stored",
        VIDEO,
        ":: -1 if right < 0 else 1]",
        "::1]",
        _VIDEO,
    ),
    Fault(
        "large videos that say nothing are taken for BT.601",
        VIDEO,
        "large = frame.width >= _HIGH_DEFINITION[0] or frame.height > _HIGH_DEFINITION[1]",
        "large = False",
        _VIDEO,
    ),
    Fault(
        "Dolby Vision without a base layer is shown green and violet",
        VIDEO,
        "if dolby and transfer in _UNKNOWN:",
        "if dolby and transfer not in _UNKNOWN:",
        _VIDEO,
    ),
    Fault(
        "PQ without primaries is taken for sRGB's gamut",
        VIDEO,
        'gamut = "bt2020"  # which',
        'gamut = "srgb"  # which',
        _VIDEO,
    ),
    Fault("any file that libav opens is a video", VIDEO, '"format_whitelist": CONTAINERS, ', "", _VIDEO),
    Fault(
        "a video that was cut off between two pictures is taken for a whole one",
        VIDEO,
        "and _index_end(self._stream) > self._container.size > 0",
        "and _index_end(self._stream) < 0",
        _INPUTS,
    ),
    Fault(
        "frames from the middle begin behind the place that was asked for",
        VIDEO,
        "_PREROLL = 1.0",
        "_PREROLL = -1.0",
        _INPUTS,
    ),
    Fault(
        "seconds are counted from the file's own zero",
        VIDEO,
        "yield time - start, pixels",
        "yield time, pixels",
        _INPUTS,
    ),
    Fault(
        "interlaced frames keep their combs",
        DEINTERLACING,
        "if not frame.interlaced_frame:",
        "if True:",
        _VIDEO,
    ),
    Fault(
        "the frames that a filter still holds are lost",
        DEINTERLACING,
        "self._graph.vpush(None)\n        ready = self._ready()",
        "ready = []",
        _VIDEO,
    ),
    Fault(
        "the frame before the first interlaced one is shown twice",
        DEINTERLACING,
        "self._unasked = 1\n",
        "self._unasked = 0\n",
        _VIDEO,
    ),
    Fault(
        "frames of another size go to the filter of those before",
        DEINTERLACING,
        "if self._graph is not None and _shape(before) != _shape(frame):",
        "if self._graph is None and _shape(before) != _shape(frame):",
        _VIDEO,
    ),
    Fault(
        "bright colours change their hue",
        COLOURS,
        "_knee()[_step(light.max(-1))][..., None]",
        "_knee()[_step(light)]",
        _VIDEO,
    ),
    Fault("HLG is shown without its system's gamma", COLOURS, 'if transfer == "hlg":', 'if transfer == "":', _VIDEO),
    Fault(
        "wide gamuts are turned round",
        COLOURS,
        "light = light @ _matrix(primaries).T",
        "light = light @ _matrix(primaries)",
        _VIDEO,
    ),
)

_STILLS = (
    Fault(
        "what shows through is black",
        PICTURES,
        'Image.new("RGBA", image.size, "white")',
        'Image.new("RGBA", image.size, "black")',
        _PICTURES,
    ),
    Fault(
        "bitmaps whose transparency nobody filled are white",
        PICTURES,
        'and not shows_nothing(image.convert("RGB")):',
        'and shows_nothing(image.convert("RGB")):',
        _PICTURES,
    ),
    Fault(
        "colour profiles are ignored",
        PICTURES,
        'if image.mode in ("RGB", "CMYK", "L") and profile:',
        'if image.mode == "CMYK" and profile:',
        _PICTURES,
    ),
    Fault(
        "12 bits in 16 are all but black",
        PICTURES,
        "for bits in (*_FEW_BITS, 16, 24) if",
        "for bits in (16, 24) if",
        _PICTURES,
    ),
    Fault(
        "of an animation the first picture counts, blank or not",
        PICTURES,
        "return _first_shown(opened, picture) if shows_nothing(picture) else picture",
        "return picture",
        _PICTURES,
    ),
    Fault(
        "Pillow opens whatever it knows, EPS and its interpreter among it",
        PICTURES,
        "formats=[name for name in FORMATS if name in Image.OPEN]",
        "formats=None",
        _PICTURES,
    ),
    Fault(
        "a picture that unpacks to gigabytes is unpacked",
        PICTURES,
        "if opened.width * opened.height > max_pixels:",
        "if opened.width * opened.height < 0:",
        _PICTURES,
    ),
    Fault(
        "Cyrillic of one byte is read as other words",
        TEXTS,
        "if _LATIN.fullmatch(text) and not _ODD.search(text):",
        "if _LATIN.fullmatch(text) or not _ODD.search(text):",
        _TEXTS,
    ),
    Fault(
        "UTF-32 is taken for UTF-16",
        TEXTS,
        '    (codecs.BOM_UTF32_LE, "utf-32"),\n',
        "",
        _TEXTS,
    ),
    Fault(
        "a mark at the beginning belongs to the first word",
        TEXTS,
        '(codecs.BOM_UTF8, "utf-8-sig")',
        '(codecs.BOM_UTF8, "utf-8")',
        _TEXTS,
    ),
)

_FACES = (
    Fault(
        "a face that lies on its side counts for as much as an upright one",
        UPRIGHT,
        "return faces[0].score * min(max(upright, 0.0), 1.0)",
        "return faces[0].score",
        _UPRIGHT,
    ),
    Fault(
        "pictures are turned the other way",
        UPRIGHT,
        "np.rot90(pixels, turns, axes=(-3, -2))",
        "np.rot90(pixels, -turns, axes=(-3, -2))",
        _UPRIGHT,
    ),
    Fault(
        "a clip is decided by its first frame",
        UPRIGHT,
        "key=lambda index: abs(index - len(frames) // 2))",
        "key=lambda index: index)",
        _UPRIGHT,
    ),
    Fault(
        "other frames of a clip are not asked",
        UPRIGHT,
        "np.mean([ratings, *(_ratings(frames[index], detect) for index in others)], axis=0)",
        "np.mean([ratings], axis=0)",
        _UPRIGHT,
    ),
    Fault(
        "stripes in a picture are taken for blocks of compression",
        DAMAGE,
        "return min(_every_eighth(grey), _every_eighth(grey.T))",
        "return max(_every_eighth(grey), _every_eighth(grey.T))",
        _DAMAGE,
    ),
    Fault(
        "red light counts as burnt out",
        DAMAGE,
        "(aligned[_INNER] >= _BRIGHT).sum(-1) >= 2",
        "(aligned[_INNER] >= _BRIGHT).sum(-1) >= 1",
        _DAMAGE,
    ),
    Fault(
        "dithered pictures are taken for posterised ones",
        DAMAGE,
        "soft = cv2.GaussianBlur(cut, (0, 0), _DITHER) if cut.size else cut",
        "soft = cut",
        _DAMAGE,
    ),
)

_SETTINGS = (
    Fault(
        "True is a number",
        VALIDATION,
        "whole = isinstance(value, int) and not isinstance(value, bool)",
        "whole = isinstance(value, int)",
        _NUMBERS,
    ),
    Fault(
        "zero is above zero",
        VALIDATION,
        "(self.low < value if self.above else self.low <= value)",
        "(self.low <= value)",
        _NUMBERS,
    ),
    Fault(
        "NaN is within every range",
        VALIDATION,
        "return (self.low < value if self.above else self.low <= value) and value <= self.high",
        "return not (value <= self.low if self.above else value < self.low) and not value > self.high",
        _NUMBERS,
    ),
    Fault(
        "lists of numbers are not looked into",
        VALIDATION,
        "for each in value if isinstance(value, tuple) else (value,):",
        "for each in () if isinstance(value, tuple) else (value,):",
        _NUMBERS,
    ),
    Fault(
        "flags take any number",
        VALIDATION,
        "if value is None or not self.holds(value):",
        "if value is None:",
        _NUMBERS,
    ),
    Fault("a seed's high word is dropped", SEEDS, " if high else key", " if high < 0 else key", _NUMBERS),
    Fault(
        "a seed's high word is taken for a sample's number",
        SEEDS,
        "jax.random.fold_in(jax.random.fold_in(key, _HIGH), high)",
        "jax.random.fold_in(key, high)",
        _NUMBERS,
    ),
    Fault(
        "workers end with Ctrl-C before the trainer has saved",
        WORKERS,
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGINT, signal.SIG_DFL)",
        _WORKERS,
    ),
    Fault(
        "signals reach workers before they can hold them off",
        WORKERS,
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)",
        "before = signal.pthread_sigmask(signal.SIG_BLOCK, ())",
        _WORKERS,
    ),
    Fault(
        "the trainer is deaf to signals from then on",
        WORKERS,
        "signal.pthread_sigmask(signal.SIG_SETMASK, before)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, before)",
        _WORKERS,
    ),
    Fault(
        "workers live on without their trainer",
        WORKERS,
        "_run_aside(_end_with, parent.sentinel)",
        "parent.sentinel",
        _WORKERS,
    ),
)

READING = _VIDEOS + _STILLS + _FACES + _SETTINGS

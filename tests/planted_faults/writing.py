"""Faults by which something is lost or taken for something else: outputs, locks, latents, conversions, checksums."""

from tests.planted_faults.fault import Fault

OUTPUTS, LOCKS, CHECKSUMS = "mmjax/outputs.py", "mmjax/locks.py", "mmjax/weights/checksums.py"
RECOGNISE, FOLDER = "mmjax/conversion/recognise.py", "mmjax/conversion/output_folder.py"
SOUNDNESS, TOKENIZER = "mmjax/conversion/soundness.py", "mmjax/conversion/tokenizer.py"
JOB, PRODUCTS = "mmjax/sampling/job.py", "mmjax/sampling/products.py"
MISTAKEN, LATENTS = "mmjax/sampling/mistaken.py", "mmjax/sampling/latents.py"

_OUTPUTS, _LOCKS = ("tests/test_outputs.py",), ("tests/test_locks.py", "tests/test_outputs.py")
_CHECKSUMS = (
    "tests/training/test_saving.py::test_checksums_see_every_piece_and_every_missing_file",
    "tests/training/test_saving.py::test_a_checkpoint_of_before_checksums_is_read_and_said",
    "tests/training/test_saving.py::test_every_flipped_bit_is_found",
)
_RECOGNISE, _FOLDER = ("tests/conversion/test_recognise.py",), ("tests/conversion/test_output_folder.py",)
_SOUNDNESS = ("tests/conversion/test_soundness.py",)
_TOKENIZER = (
    "tests/encoders/test_tokenizers.py::test_an_empty_tokenizer_is_refused_whatever_the_tables_size",
    "tests/encoders/test_tokenizers.py::test_a_tokenizer_that_knows_no_words_is_anothers",
    "tests/encoders/test_tokenizers.py::test_a_tokenizer_that_is_empty_cut_or_anothers_is_found_when_converting",
)
_JOB = ("tests/sampling/test_job.py", "tests/sampling/test_files_given.py")
_LATENTS = ("tests/sampling/test_latents.py",)
CREDENTIALS, PROVENANCE = "mmjax/credentials.py", "mmjax/provenance.py"
_CREDENTIALS, _INSPECT = ("tests/sampling/test_credentials.py",), ("tests/sampling/test_inspect.py",)

_WRITTEN = (
    Fault(
        "an output that is an input by a second name is not noticed",
        OUTPUTS,
        "if real == os.path.realpath(path) or _same_file(output.path, path):",
        "if real == os.path.realpath(path):",
        _OUTPUTS,
    ),
    Fault(
        "--overwrite replaces what mmjax did not make",
        OUTPUTS,
        "if not is_own(each.path):",
        "if not (overwrite or is_own(each.path)):",
        _OUTPUTS,
    ),
    Fault(
        "what mmjax made is replaced without --overwrite",
        OUTPUTS,
        "if not (overwrite or each.renews):",
        "if not (overwrite or is_own(each.path)):",
        _OUTPUTS,
    ),
    Fault(
        "the mark is looked for at the beginning of a file alone",
        OUTPUTS,
        "return MARK.encode() in opened.read(_TAIL)",
        "return False",
        _OUTPUTS,
    ),
    Fault(
        "room is asked for the largest file alone",
        OUTPUTS,
        "needed, free = sum(each.size for each in there)",
        "needed, free = max(each.size for each in there)",
        _OUTPUTS,
    ),
    Fault(
        "folders that were made before a refusal stay",
        OUTPUTS,
        "for folder in reversed(made):",
        "for folder in made:",
        _OUTPUTS,
    ),
    Fault(
        "what was finished just before the lock was free is replaced",
        OUTPUTS,
        "        _check_standing(outputs, overwrite)  # who held the lock before may just have finished\n",
        "",
        _OUTPUTS,
    ),
    Fault(
        "a file that another program has changed meanwhile is replaced",
        OUTPUTS,
        "_stamp(path) not in (None, self._seen[path])",
        "self._seen[path] is None and _stamp(path) is not None",
        _OUTPUTS,
    ),
    Fault(
        "a file that was changed in its place counts as unchanged",
        OUTPUTS,
        "return found.st_ino, found.st_size, found.st_mtime_ns",
        "return found.st_ino, 0, 0",
        _OUTPUTS,
    ),
    Fault("the file of a temporary lock stays", LOCKS, "if temporary:", "if not temporary:", _LOCKS),
    Fault(
        "two processes hold one lock",
        LOCKS,
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        _LOCKS,
    ),
    Fault(
        "a lock on a file that its holder has removed counts",
        LOCKS,
        "if os.path.samestat(os.stat(path), os.fstat(file.fileno())):",
        "if True:",
        _LOCKS,
    ),
    Fault("who asks whether a lock is held keeps others out", LOCKS, "_TRIES = 10", "_TRIES = 1", _LOCKS),
    Fault("a lock names parts of who held it before", LOCKS, "        file.truncate(0)\n", "", _LOCKS),
    Fault(
        "checksums are not compared",
        CHECKSUMS,
        " and _checksum(path)[1] == checksum",
        "",
        _CHECKSUMS,
    ),
    Fault(
        "of a large file the last piece alone is summed up",
        CHECKSUMS,
        "zlib.crc32(piece, checksum)",
        "zlib.crc32(piece)",
        _CHECKSUMS,
    ),
    Fault(
        "files that are missing count as whole",
        CHECKSUMS,
        "return path.is_file() and path.stat()",
        "return not path.is_file() or path.stat()",
        _CHECKSUMS,
    ),
    Fault(
        "a checkpoint without checksums counts as whole",
        CHECKSUMS,
        "    except FileNotFoundError:\n        return None",
        '    except FileNotFoundError:\n        return ""',
        _CHECKSUMS,
    ),
)

_CONVERTED = (
    Fault(
        "a path on the disk is taken for a hub id",
        RECOGNISE,
        r"""_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")""",
        r"""_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")""",
        _RECOGNISE,
    ),
    Fault(
        "a LoRA is known by its name alone",
        RECOGNISE,
        " or bool(_LORA_KEY.search(_head(path)))",
        "",
        _RECOGNISE,
    ),
    Fault(
        "links of the hub's cache are refused, whole or not",
        RECOGNISE,
        "if each.is_symlink() and not each.exists()]",
        "if each.is_symlink()]",
        _RECOGNISE,
    ),
    Fault(
        "the command in the hint converts what was wished for, not what is there",
        RECOGNISE,
        "kind or component or PIPELINE",
        "component or kind or PIPELINE",
        _RECOGNISE,
    ),
    Fault(
        "a manifest may name files outside of its folder",
        FOLDER,
        'return {path for path in found if not path.is_absolute() and ".." not in path.parts}',
        "return found",
        _FOLDER,
    ),
    Fault(
        "other people's weights beside ours are replaced",
        FOLDER,
        "if not own or len(own) < len(weights):",
        "if not own:",
        _FOLDER,
    ),
    Fault(
        "a converted component is replaced by another one",
        FOLDER,
        "if own and not published and there != component:",
        "if own and published and there != component:",
        _FOLDER,
    ),
    Fault(
        "files that mmjax did not write are replaced",
        FOLDER,
        "if path not in own and os.path.lexists(output / path)]",
        "if path in own and not os.path.lexists(output / path)]",
        _FOLDER,
    ),
    Fault(
        "what says that a folder is complete is moved first",
        FOLDER,
        "new.sort(key=lambda path: (path.name in _LAST, -len(path.parts)))",
        "new.sort(key=lambda path: (path.name not in _LAST, -len(path.parts)))",
        _FOLDER,
    ),
    Fault(
        "after a failure the old files stay aside, and go",
        FOLDER,
        "for source, target in reversed(moved):",
        "for source, target in moved[:0]:",
        _FOLDER,
    ),
    Fault(
        "NaN is within what weights may be",
        SOUNDNESS,
        "if not largest <= LARGEST:",
        "if largest > LARGEST:",
        _SOUNDNESS,
    ),
    Fault(
        "negative numbers are smaller than any limit",
        SOUNDNESS,
        "kind(np.iinfo(kind).max >> 1)",
        "kind(np.iinfo(kind).max)",
        _SOUNDNESS,
    ),
    Fault(
        "of several devices the first one's NaN alone is seen",
        SOUNDNESS,
        "return next((value for value in found if np.isnan(value)), max(found, default=1.0))",
        "return max(found, default=1.0)",
        _SOUNDNESS,
    ),
    Fault(
        "a fresh model may be zeros alone",
        SOUNDNESS,
        "if zero and (not fresh or zero == kernels):",
        "if zero and not fresh:",
        _SOUNDNESS,
    ),
    Fault(
        "a vocabulary that was cut short is taken",
        TOKENIZER,
        "if not vocabulary - _ROUNDED < size <= vocabulary:",
        "if not size <= vocabulary:",
        _TOKENIZER,
    ),
    Fault(
        "a tokenizer that knows no words is taken",
        TOKENIZER,
        "if 2 * len(strange) >= len(tokens):",
        "if len(strange) > len(tokens):",
        _TOKENIZER,
    ),
)

_SAMPLED = (
    Fault(
        "latents that were asked for are removed with the others",
        JOB,
        "if saved and self.latents is None:",
        "if saved:",
        _JOB,
    ),
    Fault(
        "what appeared while a video was made is replaced",
        JOB,
        "            self.claim.recheck(video.path, video.sheet, video.record)\n",
        "",
        _JOB,
    ),
    Fault(
        "what appeared while latents were decoded is replaced",
        JOB,
        "        claim.recheck()\n",
        "",
        _JOB,
    ),
    Fault(
        "--overwrite leaves finished videos of a batch as they are",
        "mmjax/sample.py",
        "len(requests) > 1 and not args.overwrite",
        "len(requests) > 1",
        _JOB,
    ),
    Fault(
        "an interrupted decoder does not say where the latents are",
        JOB,
        "        raise KeyboardInterrupt(_how_to_go_on(sampler, video, latents)) from None",
        "        raise",
        _JOB,
    ),
    Fault(
        "another picture of the same name is the same setting",
        PRODUCTS,
        "[_picture_hash(reference) for reference in request.references]",
        "[str(reference) for reference in request.references]",
        _JOB,
    ),
    Fault(
        "a video without its contact sheet is finished",
        PRODUCTS,
        "and self.sheet.is_file() and self._is_made()",
        "and self._is_made()",
        _JOB,
    ),
    Fault(
        "settings behind latents are believed, damaged or not",
        PRODUCTS,
        "return settings if written == PlannedVideo(Path(), settings).hash else None",
        "return settings",
        _JOB,
    ),
    Fault(
        "latents go beside the video or nowhere",
        PRODUCTS,
        "(lambda: path or unused_latents(made.path), lambda: _temporary(made.path)):",
        "(lambda: path or unused_latents(made.path),):",
        _JOB,
    ),
    Fault(
        "latents of before are replaced by those of the next video",
        PRODUCTS,
        "        number += 1\n    return found",
        "        break\n    return found",
        _JOB,
    ),
    Fault(
        "paths of models travel in videos",
        PROVENANCE,
        "{name: _last_names(settings[name]) for",
        "{name: settings[name] for",
        _INSPECT,
    ),
    Fault(
        "settings of a foreign file are believed, whatever they are",
        PROVENANCE,
        "except (ConfigError, TypeError, KeyError, AttributeError):\n        return None",
        "except (ConfigError, TypeError, KeyError, AttributeError):\n        pass",
        _INSPECT,
    ),
    Fault(
        "a batch that goes on leaves videos unsigned",
        PRODUCTS,
        "return there and (self.signer is None or",
        "return there and (self.path or",
        _CREDENTIALS,
    ),
    Fault(
        "a foreign file has this machine call a server",
        CREDENTIALS,
        '"remote_manifest_fetch": False',
        '"remote_manifest_fetch": True',
        _CREDENTIALS,
    ),
    Fault(
        "a certificate that ran out signs",
        CREDENTIALS,
        "if now > certificate.not_valid_after_utc:",
        "if not now:",
        _CREDENTIALS,
    ),
    Fault(
        "a signed file that was changed is valid",
        CREDENTIALS,
        '"Invalid": "INVALID: the file',
        '"Invalid": "valid: the file',
        _CREDENTIALS,
    ),
    Fault(
        "a checkpoint's own folder is not known for a part of a workdir",
        MISTAKEN,
        "for workdir in folder.parents[:2]:",
        "for workdir in folder.parents[:1]:",
        ("tests/sampling/test_mistaken.py",),
    ),
    Fault(
        "latents that hold NaN are taken",
        LATENTS,
        "if not (low >= -LARGEST and high <= LARGEST):",
        "if low < -LARGEST or high > LARGEST:",
        _LATENTS,
    ),
    Fault("latents run what a stranger wrote", LATENTS, "allow_pickle=False", "allow_pickle=True", _LATENTS),
)

WRITING = _WRITTEN + _CONVERTED + _SAMPLED
